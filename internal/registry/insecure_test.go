package registry_test

import (
	"context"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/errdefs"
	"lade/internal/image/imagetest"
	"lade/internal/registry"
)

// TestInsecure pulls from a registry without TLS, and from one with a certificate of
// nobody's: only where the configuration names it.
func TestInsecure(t *testing.T) {
	f := newFake(t)
	f.server.Config.ErrorLog = quiet()
	f.add(built(t, 1, 10), "v1")
	secure := httptest.NewUnstartedServer(f)
	secure.Config.ErrorLog = quiet()
	secure.StartTLS()
	defer secure.Close()
	for name, address := range map[string]string{"http": f.host, "https": strings.TrimPrefix(secure.URL, "https://")} {
		_, port, _ := strings.Cut(address, ":")
		for _, c := range []struct {
			host     string
			insecure []string
			ok       bool
		}{
			{"registry.test", nil, false},
			{"registry.test", []string{"other.test", "10.1.0.0/16"}, false},
			{"registry.test", []string{"registry.test"}, true},
			{"registry.test", []string{"registry.test:" + port}, true},
			{"registry.test", []string{"registry.test:1"}, false},
			{"10.1.2.3", []string{"10.1.0.0/16"}, true},
			{"10.2.2.3", []string{"10.1.0.0/16"}, false},
			{"inside.test", []string{"10.1.0.0/16"}, true},
			{"partly.test", []string{"10.1.0.0/16"}, false},
			{"loopback.test", []string{"10.1.0.0/16"}, false},
		} {
			s := imagetest.New(t)
			cl := client(t, s, func(cfg *registry.Config) {
				cfg.Insecure, cfg.Retries, cfg.Stall = c.insecure, 1, 20*time.Second
				cfg.Lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
					outside := netip.MustParseAddr("198.51.100.1")
					switch host {
					case "inside.test":
						return []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.9.9")}, nil
					case "partly.test":
						return []netip.Addr{netip.MustParseAddr("10.1.2.3"), outside}, nil
					case "loopback.test":
						return []netip.Addr{netip.MustParseAddr("127.0.0.1"), outside}, nil
					}
					return nil, errdefs.NotFoundf("no such host")
				}
				cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, address)
				}
			})
			_, _, err := pull(t, cl, ref(t, c.host+":"+port+"/a/b:v1"), registry.PullOptions{})
			if (err == nil) != c.ok || err != nil && errdefs.KindOf(err) != errdefs.Unavailable {
				t.Errorf("%s from %s with %q: %v", name, c.host, c.insecure, err)
			}
		}
	}
}

// TestDefaultHosts: _default/hosts.toml is for the registries without a directory
// of their own, and a host without "resolve" is asked for no tag.
func TestDefaultHosts(t *testing.T) {
	mirror, s := newFake(t), imagetest.New(t)
	b := built(t, 1, 10)
	mirror.add(b, "v1")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := "[host.\"" + mirror.server.URL + "\"]\n"
	write("_default", host+"capabilities = [\"pull\", \"resolve\"]\n")
	write("own.test", "server = \"http://127.0.0.1:1\"\n")
	write("blobs.test", "server = \"http://127.0.0.1:1\"\n"+host+"capabilities = [\"pull\"]\n")
	c := client(t, s, func(c *registry.Config) { c.CertDirs, c.Retries = []string{dir}, 1 })
	if _, _, err := pull(t, c, ref(t, "any.test/a/b:v1"), registry.PullOptions{}); err != nil {
		t.Errorf("_default: %v", err)
	}
	asked := mirror.count("/manifests/")
	for _, name := range []string{"own.test", "blobs.test"} {
		if _, _, err := pull(t, c, ref(t, name+"/a/b:v1"), registry.PullOptions{}); errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := mirror.count("/manifests/"); n != asked {
		t.Errorf("a host without \"resolve\" was asked %d times", n-asked)
	}
	if _, _, err := pull(t, c, ref(t, "blobs.test/a/b@"+b.Desc.Digest.String()), registry.PullOptions{}); err != nil {
		t.Errorf("by digest: %v", err)
	}
}
