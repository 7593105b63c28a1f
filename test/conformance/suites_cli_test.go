package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// dockerCLI are the end-to-end tests of Docker's client.
var dockerCLI = upstream{
	name: "docker-cli",
	source: source{
		module: "github.com/docker/cli", version: "v29.9.3+incompatible",
		sum: "h1:SBaMp7ecohadEHMDrUJg22t9I3awqsAVhnJ7GOcWpfE=", mod: "vendor",
		programs: map[string]string{
			"plugins/docker-helloworld": "./cli-plugins/examples/helloworld",
			"plugins/docker-badmeta":    "./e2e/cli-plugins/plugins/badmeta", "plugins/docker-nopersistentprerun": "./e2e/cli-plugins/plugins/nopersistentprerun",
			"plugins/docker-presocket": "./e2e/cli-plugins/plugins/presocket",
		},
	},
	without:  []string{"TestCreatePushPull"}, // it builds a plugin, for minutes
	packages: []string{"e2e/cli-plugins", "e2e/container", "e2e/context", "e2e/global", "e2e/image", "e2e/plugin", "e2e/registry", "e2e/stack", "e2e/system"},
	prepare: func(t *testing.T, st *stage) {
		ownHost(t, "registry", "privateregistry", "tlsregistry")
		registry := filepath.Join(st.dir, "e2e", "testdata", "registry")
		registries(t, registry)
		// What their image of the engine has among the certificates of the system.
		t.Setenv("SSL_CERT_FILE", filepath.Join(registry, "certs", "ca.crt"))
		st.e = harness.Start(t, append(harness.Apart(), "--insecure-registry=registry:5000", "--insecure-registry=privateregistry:5001", "--experimental")...)
		busybox(t, st.e, "registry:5000/busybox:frozen", "registry:5000/alpine:frozen", "alpine:latest", "busybox:latest")
		st.e.Run("push", "registry:5000/busybox:frozen")
		st.e.Run("push", "registry:5000/alpine:frozen")
		st.env = []string{
			"DOCKER_HOST=unix://" + st.e.Socket, "TEST_DOCKER_HOST=unix://" + st.e.Socket, "HOME=" + t.TempDir(),
			"PATH=" + built(t) + string(os.PathListSeparator) + os.Getenv("PATH"),
			"DOCKER_CLI_E2E_PLUGINS_EXTRA_DIRS=" + filepath.Join(st.dir, "bin", "plugins"),
		}
	},
}

// registries starts the three that the tests know: one for everybody, one with a
// password, and one with a certificate as well. dir has what they are made of.
func registries(t *testing.T, dir string) {
	t.Helper()
	if err := quiet(t, "sh", filepath.Join(dir, "certs", "gen-certs.sh")); err != nil {
		t.Fatal(err)
	}
	const password = "auth: {htpasswd: {realm: Registry Realm, path: %[1]s/auth/htpasswd}}\n"
	for address, more := range map[string]string{
		"registry:5000": "", "privateregistry:5001": password,
		"tlsregistry:5003": "  tls: {certificate: %[1]s/certs/tlsregistry.crt, key: %[1]s/certs/tlsregistry.key}\n" + password,
	} {
		text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp:\n  addr: %s\n", t.TempDir(), address)
		if more != "" {
			text += fmt.Sprintf(more, dir)
		}
		config := filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(need.Program(t, "docker-registry", "Debian's docker-registry"), "serve", config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}
