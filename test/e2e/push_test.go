package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// credentialHelper is a docker-credential-* program that keeps one registry's
// credentials in a file.
const credentialHelper = `#!/bin/sh
case $1 in
store) cat >"$CREDENTIALS" ;;
get) if [ -s "$CREDENTIALS" ]; then cat "$CREDENTIALS"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$CREDENTIALS" ;;
list) echo {} ;;
esac
`

// TestPush pushes with both clients to a registry that wants a password, which a
// credential helper keeps, and finds with another program that the digests are
// those of the image.
func TestPush(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	skopeo := need.Program(t, "skopeo", "Debian's skopeo")
	dir := t.TempDir()
	passwords := filepath.Join(dir, "htpasswd")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(passwords, "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n", 0o600)
	write(filepath.Join(dir, "docker-credential-test"), credentialHelper, 0o755)
	address := registry(t, fmt.Sprintf("auth: {htpasswd: {realm: x, path: %q}}", passwords))
	e := harness.Start(t)
	for name, c := range map[string]struct{ client, settings string }{
		"lade": {"lade", `{"credsStore":"test"}`}, "docker": {"docker", `{"credsStore":"test"}`},
		"helper": {"lade", fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, address)}, // of this registry alone
	} {
		client := c.client
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(dir, name)
			if err := os.Mkdir(config, 0o700); err != nil {
				t.Fatal(err)
			}
			write(filepath.Join(config, "config.json"), c.settings, 0o600)
			run := func(stdin string, want int, args ...string) string {
				t.Helper()
				cmd := e.Command(client, args...)
				cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+config, "CREDENTIALS="+filepath.Join(config, "kept"), "PATH="+dir+":"+os.Getenv("PATH"))
				cmd.Stdin = strings.NewReader(stdin)
				out, err := cmd.CombinedOutput()
				if got := exitCode(err); got != want {
					t.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, want, out)
				}
				return string(out)
			}
			p := portrait("pushed by "+name, "gzip")
			manifest, _ := p.oci()
			digest := blob(manifest).digest()
			name := address + "/of/" + name
			archive := filepath.Join(config, "image.tar")
			write(archive, string(pack(p.layout("made:here")...)), 0o600)
			run("", 0, "load", "-i", archive)
			run("", 0, "tag", "made:here", name+":one")
			run("", 0, "tag", "made:here", name+":two")

			if out := run("", 1, "push", name+":one"); !strings.Contains(out, "no basic auth credentials") {
				t.Errorf("without a login: %s", out)
			}
			if out := run("wrong", 1, "login", "-u", "me", "--password-stdin", address); !strings.Contains(strings.ToLower(out), "unauthorized") {
				t.Errorf("a wrong password: %s", out)
			}
			if out := run("secret", 0, "login", "-u", "me", "--password-stdin", address); !strings.Contains(out, "Login Succeeded") {
				t.Errorf("login: %s", out)
			}
			if b, err := os.ReadFile(filepath.Join(config, "config.json")); err != nil || bytes.Contains(b, []byte("bWU6")) {
				t.Errorf("the password is in config.json: %s, %v", b, err)
			}
			if b, err := os.ReadFile(filepath.Join(config, "kept")); err != nil || !bytes.Contains(b, []byte(`"secret"`)) {
				t.Errorf("the helper was given %s, %v", b, err)
			}
			out := run("", 0, "push", name+":one")
			for _, want := range []string{"The push refers to repository [" + name + "]", "Pushed", "one: digest: " + digest + fmt.Sprintf(" size: %d", len(manifest))} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if out := run("", 0, "push", "-a", name); !strings.Contains(out, "one: digest: "+digest) || !strings.Contains(out, "two: digest: "+digest) || !strings.Contains(out, "Layer already exists") {
				t.Errorf("all tags: %s", out)
			}
			found, err := exec.Command(skopeo, "inspect", "--tls-verify=false", "--creds", "me:secret", "--format", "{{.Digest}}", "docker://"+name+":two").CombinedOutput()
			if err != nil || strings.TrimSpace(string(found)) != digest {
				t.Errorf("skopeo finds %s, %v; the image's manifest is %s", found, err, digest)
			}
			run("", 0, "rmi", name+":one", name+":two", "made:here")
			if out := run("", 0, "pull", name+":two"); !strings.Contains(out, "Digest: "+digest) {
				t.Errorf("pulled back: %s", out)
			}
			run("", 0, "rmi", name+":two")
			if out := run("", 1, "push", name+":none"); !strings.Contains(out, "An image does not exist locally with the tag: "+name) {
				t.Errorf("an unknown tag: %s", out)
			}
			run("", 0, "logout", address)
			if out := run("", 1, "pull", name+":two"); !strings.Contains(out, "no basic auth credentials") {
				t.Errorf("after the logout: %s", out)
			}
		})
	}
	if left := leftovers(e); len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, " "))
	}
}

// TestPlatforms keeps the images of two platforms under one name, from pull to
// push, save and removal.
func TestPlatforms(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	skopeo, umoci := need.Program(t, "skopeo", "Debian's skopeo"), need.Program(t, "umoci", "Debian's umoci")
	address := registry(t)
	here, there := portrait("here", "gzip"), portrait("there", "zstd")
	there.config = bytes.Replace(there.config, []byte(`"amd64"`), []byte(`"s390x"`), 1)
	name := address + "/of/both"
	var list []map[string]any
	for arch, p := range map[string]picture{"amd64": here, "s390x": there} {
		push(t, address, "of/both", arch, p)
		m, _ := p.oci()
		list = append(list, map[string]any{"mediaType": manifestType, "digest": blob(m).digest(), "size": len(m), "platform": map[string]string{"os": "linux", "architecture": arch}})
	}
	const indexType = "application/vnd.oci.image.index.v1+json"
	index := asJSON(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": list})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/v2/of/both/manifests/v1", bytes.NewReader(index))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", indexType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	e := harness.Start(t)
	for _, client := range []string{"lade", "docker"} {
		t.Run(client, func(t *testing.T) {
			run := func(want int, args ...string) string {
				t.Helper()
				out, err := e.Command(client, args...).CombinedOutput()
				if got := exitCode(err); got != want {
					t.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, want, out)
				}
				return strings.TrimSpace(string(out))
			}
			text := func(args ...string) string {
				t.Helper()
				return run(0, append([]string{"image", "inspect", "-f", "{{.Architecture}} {{index .Config.Env 0}}"}, args...)...)
			}
			run(0, "pull", "--platform", "linux/s390x", name+":v1")
			if got := text(name + ":v1"); got != "s390x TEXT=there" {
				t.Errorf("the only one: %s", got)
			}
			if out := run(0, "push", name+":v1"); !strings.Contains(out, blob(index).digest()) {
				t.Errorf("a repository that has the rest: %s", out)
			}
			run(0, "pull", name+":v1")
			if got := text(name + ":v1"); got != "amd64 TEXT=here" {
				t.Errorf("by default: %s", got)
			}
			if got := text("--platform", "linux/s390x", name+":v1"); got != "s390x TEXT=there" {
				t.Errorf("--platform: %s", got)
			}
			run(1, "image", "inspect", "--platform", "linux/riscv64", name+":v1")
			run(0, "history", "--platform", "linux/s390x", name+":v1")
			if out := run(0, "images", "-q", name); strings.Count(out, "\n") != 0 {
				t.Errorf("images: %s", out)
			}
			if out := run(0, "images", "-aq", name); strings.Count(out, "\n") != 1 {
				t.Errorf("images -a: %s", out)
			}
			if out := run(0, "images", "--tree"); !strings.Contains(out, "linux/amd64") || !strings.Contains(out, "linux/s390x") || !strings.Contains(out, name+":v1") {
				t.Errorf("images --tree: %s", out)
			}
			// Elsewhere, as a whole.
			copied := address + "/copied/" + client
			run(0, "tag", name+":v1", copied+":v1")
			if out := run(0, "push", copied+":v1"); !strings.Contains(out, "v1: digest: "+blob(index).digest()) {
				t.Errorf("push: %s", out)
			}
			if raw, err := exec.Command(skopeo, "inspect", "--raw", "--tls-verify=false", "docker://"+copied+":v1").Output(); err != nil || !bytes.Equal(raw, index) {
				t.Errorf("skopeo finds %s, %v", raw, err)
			}
			// In an archive, whole and in part, which umoci unpacks.
			dir := t.TempDir()
			all, one := filepath.Join(dir, "all.tar"), filepath.Join(dir, "one.tar")
			run(0, "save", "-o", all, name+":v1")
			run(0, "save", "--platform", "linux/s390x", "-o", one, name+":v1")
			oci := filepath.Join(dir, "oci")
			if out, err := exec.Command(skopeo, "copy", "--insecure-policy", "--override-arch", "s390x", "oci-archive:"+all, "oci:"+oci+":x").CombinedOutput(); err != nil {
				t.Errorf("skopeo: %v\n%s", err, out)
			}
			bundle := filepath.Join(dir, "bundle")
			if out, err := exec.Command(umoci, "unpack", "--image", oci+":x", bundle).CombinedOutput(); err != nil && !strings.Contains(string(out), "zstd") {
				t.Errorf("umoci: %v\n%s", err, out) // Debian's umoci knows no zstd
			}
			run(0, "rmi", copied+":v1")
			run(0, "rmi", "--platform", "linux/amd64", name+":v1")
			if got := text(name + ":v1"); got != "s390x TEXT=there" {
				t.Errorf("after one was removed: %s", got)
			}
			run(1, "rmi", "--platform", "linux/amd64", name+":v1")
			run(0, "rmi", name+":v1")
			if out := run(0, "images", "-aq"); out != "" {
				t.Errorf("left: %s", out)
			}
			if out := run(0, "load", "-i", all); !strings.Contains(out, "Loaded image: "+name+":v1") || strings.Count(out, "Loaded") != 1 {
				t.Errorf("load: %s", out)
			}
			if a, b := text(name+":v1"), text("--platform", "linux/s390x", name+":v1"); a != "amd64 TEXT=here" || b != "s390x TEXT=there" {
				t.Errorf("loaded %s and %s", a, b)
			}
			run(0, "rmi", name+":v1")
			run(1, "load", "--platform", "linux/amd64", "-i", one)
			run(0, "load", "--platform", "linux/s390x", "-i", all)
			if out := run(0, "images", "-aq"); strings.Count(out, "\n") != 0 || out == "" {
				t.Errorf("loaded one platform: %s", out)
			}
			run(0, "rmi", name+":v1")
		})
	}
	if left := leftovers(e); len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, " "))
	}
}

// TestUmoci takes an image that umoci has made to a registry and back to umoci.
func TestUmoci(t *testing.T) {
	need.Root(t)
	skopeo, umoci := need.Program(t, "skopeo", "Debian's skopeo"), need.Program(t, "umoci", "Debian's umoci")
	address := registry(t)
	e := harness.Start(t)
	dir := t.TempDir()
	tool := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	content := filepath.Join(dir, "content")
	if err := os.WriteFile(content, []byte("by umoci"), 0o640); err != nil {
		t.Fatal(err)
	}
	oci := filepath.Join(dir, "oci")
	tool(umoci, "init", "--layout", oci)
	tool(umoci, "new", "--image", oci+":x")
	tool(umoci, "insert", "--image", oci+":x", content, "/some/file")
	tool(umoci, "config", "--image", oci+":x", "--config.cmd", "/bin/true", "--config.label", "made=there")
	archive := filepath.Join(dir, "x.tar")
	tool(skopeo, "copy", "--insecure-policy", "oci:"+oci+":x", "oci-archive:"+archive+":"+address+"/from/umoci:x")
	e.Run("load", "-i", archive)
	name := address + "/from/umoci:x"
	if got := e.Run("image", "inspect", "-f", "{{.Config.Labels.made}}", name); got != "there" {
		t.Errorf("label %q", got)
	}
	e.Run("push", name)
	e.Run("rmi", name)
	e.Run("pull", name)
	back, bundle := filepath.Join(dir, "back"), filepath.Join(dir, "bundle")
	tool(skopeo, "copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+name, "oci:"+back+":x")
	tool(umoci, "unpack", "--image", back+":x", bundle)
	if b, err := os.ReadFile(filepath.Join(bundle, "rootfs/some/file")); err != nil || string(b) != "by umoci" {
		t.Errorf("the file after push, copy and unpack: %q, %v", b, err)
	}
	saved := filepath.Join(dir, "saved.tar")
	e.Run("save", "-o", saved, name)
	again, second := filepath.Join(dir, "again"), filepath.Join(dir, "second")
	tool(skopeo, "copy", "--insecure-policy", "oci-archive:"+saved, "oci:"+again+":x")
	tool(umoci, "unpack", "--image", again+":x", second)
	if out, err := exec.Command("diff", "-r", filepath.Join(bundle, "rootfs"), filepath.Join(second, "rootfs")).CombinedOutput(); err != nil {
		t.Errorf("the saved image is another: %s", out)
	}
	e.Run("rmi", name)
}

// TestFromWeb imports from a URL and searches, with both clients.
func TestFromWeb(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	root := pack(entry{tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}, ""}, file("d/one", "from the web"))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/root.tar":
			_, _ = w.Write(root)
		case "/v1/search":
			_ = json.NewEncoder(w).Encode(map[string]any{"results": []map[string]any{
				{"name": "one/thing", "description": "the one", "star_count": 7, "is_official": false}, {"name": "other", "star_count": 1, "is_official": true},
			}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	e := harness.Start(t)
	for _, client := range []string{"lade", "docker"} {
		run := func(want int, args ...string) string {
			t.Helper()
			out, err := e.Command(client, args...).CombinedOutput()
			if got := exitCode(err); got != want {
				t.Fatalf("%s %s: exit code %d, want %d\n%s", client, strings.Join(args, " "), got, want, out)
			}
			return string(out)
		}
		if out := run(0, "import", s.URL+"/root.tar", "web:"+client); !strings.Contains(out, "sha256:") {
			t.Errorf("%s import: %s", client, out)
		}
		if got := run(0, "history", "--format", "{{.Comment}}", "web:"+client); strings.TrimSpace(got) != "Imported from "+s.URL+"/root.tar" {
			t.Errorf("%s: %s", client, got)
		}
		if out := run(1, "import", s.URL+"/none"); !strings.Contains(out, "not found") {
			t.Errorf("%s import of nothing: %s", client, out)
		}
		if out := run(0, "search", "--filter", "stars=3", "--format", "{{.Name}} {{.Description}} {{.StarCount}}", host+"/x"); out != "one/thing the one 7\n" {
			t.Errorf("%s search: %q", client, out)
		}
		if out := run(1, "search", "--limit", "200", host+"/x"); !strings.Contains(strings.ToLower(out), "limit 200 is outside the range of [1, 100]") {
			t.Errorf("%s search: %q", client, out)
		}
		run(0, "rmi", "web:"+client)
	}
	s.Close()
	if _, stderr, code := e.Try("search", host+"/x"); code != 1 || !strings.Contains(stderr, "connection refused") {
		t.Errorf("a registry that is not there: %d, %s", code, stderr)
	}
}
