package registry_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/need"
	"lade/internal/oci"
	"lade/internal/reference"
	"lade/internal/registry"
)

// htpasswd is "me" with the password "secret".
const htpasswd = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"

// serve starts Debian's docker-registry with further settings and returns its
// address.
func serve(t *testing.T, settings string) string {
	t.Helper()
	program := need.Program(t, "docker-registry", "Debian's docker-registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\n%s\n",
		filepath.Join(dir, "data"), strings.ReplaceAll(settings, "ADDRESS", address))
	if !strings.Contains(settings, "http: {") {
		config += fmt.Sprintf("http: {addr: %q}\n", address)
	}
	name := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait())); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatal("the registry does not start")
		}
	}
}

// pushed pushes and returns the lines without progress.
func pushed(t *testing.T, c *registry.Client, r reference.Reference, o registry.PushOptions) (d digest.Digest, lines []string, err error) {
	t.Helper()
	o.Progress = func(m jsonstream.Message) {
		if m.Aux != nil {
			lines = append(lines, string(*m.Aux))
		} else if m.Progress == nil || m.Progress.Total == 0 {
			lines = append(lines, strings.TrimPrefix(m.ID+": "+m.Status, ": "))
		}
	}
	d, err = c.Push(t.Context(), r, o)
	return d, lines, err
}

// TestPush pushes to the reference implementation, pulls from it what it got,
// and finds the same digests.
func TestPush(t *testing.T) {
	host := serve(t, "")
	s := imagetest.New(t)
	c := client(t, s, func(c *registry.Config) { c.Chunk = 100_000 }) // the last layer in chunks
	b := imagetest.Build(t, imagetest.Spec{Docker: true, Layers: layersOf(built(t, 3, 350_000))})
	first, second := ref(t, host+"/a/b:v1"), ref(t, host+"/c/d:v2")
	imagetest.Add(t, s, b, first, second)

	d, lines, err := pushed(t, c, first, registry.PushOptions{})
	if err != nil || string(d) != b.Desc.Digest.String() {
		t.Fatalf("%s, %v\n%s", d, err, strings.Join(lines, "\n"))
	}
	if lines[0] != "The push refers to repository ["+host+"/a/b]" {
		t.Errorf("began with %q", lines[0])
	}
	end := []string{fmt.Sprintf("v1: digest: %s size: %d", d, b.Desc.Size), fmt.Sprintf(`{"Digest":%q,"Size":%d,"Tag":"v1"}`, d, b.Desc.Size)}
	if got := lines[len(lines)-2:]; !slices.Equal(got, end) {
		t.Errorf("ended with %q, want %q", got, end)
	}
	count := func(lines []string, status string) (n int) {
		for _, l := range lines {
			if strings.HasSuffix(l, ": "+status) {
				n++
			}
		}
		return n
	}
	if count(lines, "Preparing") != 3 || count(lines, "Pushed") != 3 {
		t.Errorf("%q", lines)
	}
	if _, lines, err = pushed(t, c, first, registry.PushOptions{}); err != nil || count(lines, "Layer already exists") != 3 {
		t.Errorf("again: %v, %q", err, lines)
	}
	if _, lines, err = pushed(t, c, second, registry.PushOptions{}); err != nil || count(lines, "Mounted from a/b") != 3 {
		t.Errorf("elsewhere: %v, %q", err, lines)
	}
	img, err := s.Lookup(first)
	if err != nil || !slices.Contains(img.Digests, first.WithDigest(d)) {
		t.Errorf("digests of the pushed image: %v, %v", img.Digests, err)
	}

	other := imagetest.New(t)
	for _, r := range []reference.Reference{first, second} {
		got, _, err := pull(t, client(t, other, nil), r, registry.PullOptions{})
		if err != nil || got.ID != b.ID || got.Manifest.Digest != b.Desc.Digest {
			t.Errorf("pull of %s: %v", r.Familiar(), err)
		}
	}
	for name, tc := range map[string]struct {
		ref  string
		kind errdefs.Kind
		text string
	}{
		"unknown tag": {host + "/a/b:none", errdefs.NotFound, "An image does not exist locally with the tag: " + host + "/a/b:none"},
		"a digest":    {host + "/a/b@" + string(d), errdefs.Invalid, "cannot push a digest reference"},
	} {
		if _, _, err := pushed(t, c, ref(t, tc.ref), registry.PushOptions{}); errdefs.KindOf(err) != tc.kind || err.Error() != tc.text {
			t.Errorf("%s: %v", name, err)
		}
	}
	arm := &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	if _, _, err := pushed(t, c, first, registry.PushOptions{Platform: arm}); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("another platform: %v", err)
	}
}

// platforms makes an image for each of several platforms, with their index, and
// adds them to a registry under the tag multi.
func platforms(t *testing.T, f *fake, names ...string) (raw []byte, desc ocispec.Descriptor, images []*imagetest.Built) {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, name := range names {
		p, err := oci.ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		b := imagetest.Build(t, imagetest.Spec{Platform: p, Layers: [][]byte{imagetest.Tar(t, imagetest.File{Name: "platform", Body: name})}})
		f.add(b)
		images = append(images, b)
		d := b.Desc
		d.Platform = &p
		index.Manifests = append(index.Manifests, d)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	desc = image.Describe(ocispec.MediaTypeImageIndex, raw)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addManifestLocked(raw, desc, "multi")
	return raw, desc, images
}

// TestPushPlatforms pulls platforms of an index one after the other and pushes
// what is there: a manifest, an index of a part, the whole index.
func TestPushPlatforms(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	_, desc, images := platforms(t, f, "linux/s390x", "linux/riscv64", oci.FormatPlatform(oci.Host()))
	host := serve(t, "")
	c := client(t, s, nil)
	from := ref(t, f.host+"/a/b:multi")
	get := func(i int) {
		t.Helper()
		if _, _, err := pull(t, c, from, registry.PullOptions{Platform: &images[i].Spec.Platform}); err != nil {
			t.Fatal(err)
		}
	}
	send := func(name string) (*apiregistry.DistributionInspect, string) {
		t.Helper()
		r := ref(t, host+"/"+name)
		if _, err := s.Tag(t.Context(), from.Familiar(), r); err != nil {
			t.Fatal(err)
		}
		_, lines, err := pushed(t, c, r, registry.PushOptions{})
		if err != nil {
			t.Fatal(err)
		}
		info, err := c.Inspect(t.Context(), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return info, strings.Join(lines, "\n")
	}
	get(2)
	if info, lines := send("one/x:y"); info.Descriptor.Digest != images[2].Desc.Digest || !strings.Contains(lines, `"manifestPushedInsteadOfIndex":true`) {
		t.Errorf("one platform: %+v\n%s", info, lines)
	}
	get(0)
	if img, err := s.Lookup(from); err != nil || img.ID != images[2].ID {
		t.Errorf("the name means %+v, %v: not the image for this machine", img, err)
	}
	if info, lines := send("two/x:y"); len(info.Platforms) != 2 || !strings.Contains(lines, "2 of the 3 manifests") {
		t.Errorf("two platforms: %+v\n%s", info, lines)
	}
	get(1)
	if info, _ := send("three/x:y"); info.Descriptor.Digest != desc.Digest || len(info.Platforms) != 3 {
		t.Errorf("all platforms: %+v", info)
	}
	// One of them, alone.
	r := ref(t, host+"/three/x:y")
	if d, _, err := pushed(t, c, r, registry.PushOptions{Platform: &images[0].Spec.Platform}); err != nil || string(d) != images[0].Desc.Digest.String() {
		t.Errorf("--platform: %s, %v", d, err)
	}
	nobody := func(digest.Digest) []image.User { return nil }
	// A repository that has the other manifests takes the whole index of one platform.
	for _, i := range []int{0, 1} {
		if _, err := s.Remove(t.Context(), r.Familiar(), image.RemoveOptions{Platforms: []ocispec.Platform{images[i].Spec.Platform}}, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if d, _, err := pushed(t, c, r, registry.PushOptions{}); err != nil || string(d) != desc.Digest.String() {
		t.Errorf("the rest is there: %s, %v", d, err)
	}
	for _, img := range s.List() {
		if _, err := s.Remove(t.Context(), img.ID.String(), image.RemoveOptions{Force: true}, nobody); err != nil {
			t.Fatal(err)
		}
	}
	imagetest.Empty(t, s)
}

// authority makes a certificate for host, that of its authority, and one for a
// client, as files: ca.crt, host.pem, host.key, client.cert, client.key.
func authority(t *testing.T, host string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey := key()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.crt", "CERTIFICATE", der)
	for i, name := range []string{"host", "client"} {
		k := key()
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{host},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, ca, &k.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".cert", "CERTIFICATE", der)
		der, err = x509.MarshalECPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".key", "EC PRIVATE KEY", der)
	}
	return dir
}

// TestTLS talks with the reference implementation over TLS, which demands a
// certificate and a password. Its host is no loopback address to us.
func TestTLS(t *testing.T) {
	files := authority(t, "registry.test")
	passwords := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(passwords, []byte(htpasswd), 0o600); err != nil {
		t.Fatal(err)
	}
	address := serve(t, fmt.Sprintf("http: {addr: ADDRESS, tls: {certificate: %[1]s/host.cert, key: %[1]s/host.key, clientcas: [%[1]s/ca.crt]}}\nauth: {htpasswd: {realm: x, path: %[2]q}}",
		files, passwords))
	_, port, _ := strings.Cut(address, ":")
	host := "registry.test:" + port
	certs := t.TempDir()
	put := func(dir string, names map[string]string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for to, from := range names {
			b, err := os.ReadFile(filepath.Join(files, from))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := imagetest.New(t)
	b := built(t, 2, 1000)
	r := ref(t, host+"/a/b:v1")
	imagetest.Add(t, s, b, r)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	with := func(change func(*registry.Config)) *registry.Client {
		return client(t, s, func(c *registry.Config) {
			c.Dial, c.CertDirs, c.Stall = dial, []string{certs}, 30*time.Second
			if change != nil {
				change(c)
			}
		})
	}
	me := &apiregistry.AuthConfig{Username: "me", Password: "secret"}
	try := func(c *registry.Client) error {
		_, _, err := pushed(t, c, r, registry.PushOptions{Auth: me})
		return err
	}
	c := with(nil)
	if err := try(c); errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("without its authority: %v", err)
	}
	dir := filepath.Join(certs, host)
	put(dir, map[string]string{"ca.crt": "ca.crt"})
	if err := try(c); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("without our certificate: %v", err)
	}
	put(dir, map[string]string{"me.cert": "client.cert"})
	if err := try(c); errdefs.KindOf(err) != errdefs.Invalid || !strings.Contains(err.Error(), "missing key me.key for client certificate me.cert") {
		t.Errorf("without the key: %v", err)
	}
	put(dir, map[string]string{"me.key": "client.key"})
	if err := try(c); err != nil {
		t.Errorf("with all: %v", err)
	}
	if _, err := c.Login(t.Context(), apiregistry.AuthConfig{Username: "me", Password: "secret", ServerAddress: "https://" + host + "/v1/"}); err != nil {
		t.Errorf("login: %v", err)
	}
	if _, err := c.Login(t.Context(), apiregistry.AuthConfig{Username: "me", Password: "wrong", ServerAddress: host}); errdefs.KindOf(err) != errdefs.Unauthorized {
		t.Errorf("login with a wrong password: %v", err)
	}
	if _, _, err := pushed(t, c, r, registry.PushOptions{}); errdefs.KindOf(err) != errdefs.Unauthorized {
		t.Errorf("anonymous: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	// daemon.json and hosts.toml say the same in other words.
	own := registry.Host{CA: filepath.Join(files, "ca.crt"), Cert: filepath.Join(files, "client.cert"), Key: filepath.Join(files, "client.key")}
	if err := try(with(func(c *registry.Config) { c.Registries = map[string]registry.Host{host: own} })); err != nil {
		t.Errorf("registries: %v", err)
	}
	lenient := registry.Host{Insecure: true, Cert: own.Cert, Key: own.Key}
	if err := try(with(func(c *registry.Config) { c.Registries = map[string]registry.Host{host: lenient} })); err != nil {
		t.Errorf("insecure: %v", err)
	}
	dir = filepath.Join(certs, "registry.test_"+port+"_")
	put(dir, map[string]string{"x.pem": "ca.crt", "me.cert": "client.cert", "me.key": "client.key"})
	text := fmt.Sprintf("server = \"https://%s\"\nca = \"x.pem\"\nclient = [[\"me.cert\", \"me.key\"]]\n", host)
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := try(with(nil)); err != nil {
		t.Errorf("hosts.toml: %v", err)
	}
}

// uploads takes uploads, and can cut, forget and send elsewhere.
type uploads struct {
	t  *testing.T
	mu sync.Mutex

	got     []byte
	at      string // where an upload goes on, "" here
	answers func(w http.ResponseWriter, r *http.Request) bool
}

func (u *uploads) handle(w http.ResponseWriter, r *http.Request) bool {
	if u.answers != nil && u.answers(w, r) {
		return true
	}
	switch {
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost:
		w.Header().Set("Location", u.at+"/v2/a/b/blobs/uploads/1?state=x")
		w.WriteHeader(http.StatusAccepted)
	case strings.Contains(r.URL.Path, "/blobs/uploads/") && r.URL.Query().Get("state") != "x":
		u.t.Errorf("the upload's state is lost: %s", r.URL)
	case strings.Contains(r.URL.Path, "/blobs/uploads/"):
		body, _ := io.ReadAll(r.Body) // a cut shows in what the registry has
		u.mu.Lock()
		defer u.mu.Unlock()
		if r.Method == http.MethodGet {
			w.Header().Set("Range", fmt.Sprintf("0-%d", len(u.got)-1))
			w.WriteHeader(http.StatusNoContent)
			return true
		}
		if from := r.Header.Get("Content-Range"); from != "" && !strings.HasPrefix(from, fmt.Sprintf("%d-", len(u.got))) {
			u.t.Errorf("Content-Range %q, %d bytes are there", from, len(u.got))
		}
		u.got = append(u.got, body...)
		w.Header().Set("Location", u.at+"/v2/a/b/blobs/uploads/1?state=x")
		if r.Method == http.MethodPatch {
			w.WriteHeader(http.StatusAccepted)
			return true
		}
		if want := digest.Digest(r.URL.Query().Get("digest")); digest.FromBytes(u.got) != want {
			u.t.Errorf("%s arrived as %s", want, digest.FromBytes(u.got))
		}
		u.got = nil
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		w.WriteHeader(http.StatusCreated)
	default:
		return false
	}
	return true
}

// TestPushCut cuts uploads: the registry is asked how much it has, and gets the
// rest.
func TestPushCut(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	u := &uploads{t: t}
	f.server.Config.ErrorLog = quiet()
	var cut atomic.Int32
	u.answers = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && cut.Add(1)%2 == 1 { // takes some of each other chunk
			part := make([]byte, 1000)
			n, _ := io.ReadFull(r.Body, part)
			u.mu.Lock()
			u.got = append(u.got, part[:n]...)
			u.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		return false
	}
	f.meddle = u.handle
	b := built(t, 1, 400_000)
	r := ref(t, f.host+"/a/b:v1")
	imagetest.Add(t, s, b, r)
	if _, _, err := pushed(t, client(t, s, func(c *registry.Config) { c.Chunk = 100_000 }), r, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := f.count("GET /v2/a/b/blobs/uploads/1"); n < 4 {
		t.Errorf("the registry was asked %d times", n)
	}
}

// TestPushElsewhere uploads where the registry sends us, without what is for the
// registry alone.
func TestPushElsewhere(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	u := &uploads{t: t}
	var leaked, stored atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		stored.Store(true)
		u.handle(w, r)
	}))
	defer other.Close()
	u.at = other.URL
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "secret" {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return true
		}
		return u.handle(w, r)
	}
	r := ref(t, f.host+"/a/b:v1")
	imagetest.Add(t, s, built(t, 1, 10), r)
	if _, _, err := pushed(t, client(t, s, nil), r, registry.PushOptions{Auth: &apiregistry.AuthConfig{Username: "me", Password: "secret"}}); err != nil {
		t.Fatal(err)
	}
	if leaked.Load() || !stored.Load() {
		t.Errorf("credentials went elsewhere: %t; the blob did: %t", leaked.Load(), stored.Load())
	}
}

// TestPushRefused checks what is told of a registry that does not take an image.
func TestPushRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter)
		kind   errdefs.Kind
		text   string
	}{
		"denied": {func(w http.ResponseWriter) { refuse(w, 403, "DENIED", "requested access to the resource is denied") }, errdefs.Forbidden, "denied: requested access to the resource is denied"},
		"rate limit": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "3600")
			refuse(w, 429, "TOOMANYREQUESTS", "slow down")
		}, errdefs.Exhausted, "toomanyrequests: slow down"},
		"broken":    {func(w http.ResponseWriter) { w.WriteHeader(502) }, errdefs.Unavailable, "received unexpected HTTP status: 502 Bad Gateway"},
		"read only": {func(w http.ResponseWriter) { refuse(w, 405, "UNSUPPORTED", "the operation is unsupported") }, errdefs.Internal, "unsupported: the operation is unsupported"},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t), imagetest.New(t)
			u := &uploads{t: t, answers: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost {
					tc.answer(w)
				}
				return r.Method == http.MethodPost
			}}
			f.meddle = u.handle
			r := ref(t, f.host+"/a/b:v1")
			imagetest.Add(t, s, built(t, 1, 10), r)
			_, _, err := pushed(t, client(t, s, func(c *registry.Config) { c.Retries = 2 }), r, registry.PushOptions{})
			if errdefs.KindOf(err) != tc.kind || err.Error() != tc.text {
				t.Errorf("%v (%v)", err, errdefs.KindOf(err))
			}
		})
	}
}
