package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// registry starts Debian's docker-registry, with further lines of its
// configuration, and returns its address.
func registry(t *testing.T, settings ...string) string {
	t.Helper()
	program := need.Program(t, "docker-registry", "Debian's docker-registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", dir, address) + strings.Join(settings, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "serve", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Log(err)
		}
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			resp.Body.Close()
			return address
		}
		if time.Now().After(end) {
			t.Fatalf("the registry does not answer: %v\n%s", err, log.String())
		}
	}
}

// push fills a repository through the registry's API and returns the
// manifest's digest.
func push(t *testing.T, address, repository, tag string, p picture) string {
	t.Helper()
	manifest, blobs := p.oci()
	do := func(method, url, mediaType string, body []byte) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			text, _ := io.ReadAll(resp.Body) // only to show it
			t.Fatalf("%s %s: %s\n%s", method, url, resp.Status, text)
		}
		return resp
	}
	base := "http://" + address + "/v2/" + repository
	for _, b := range blobs {
		at := do(http.MethodPost, base+"/blobs/uploads/", "", nil).Header.Get("Location")
		sep := "?"
		if strings.Contains(at, "?") {
			sep = "&"
		}
		do(http.MethodPut, at+sep+"digest="+b.digest(), "application/octet-stream", b)
	}
	do(http.MethodPut, base+"/manifests/"+tag, manifestType, manifest)
	return blob(manifest).digest()
}

// TestPull pulls from a real registry with both clients.
func TestPull(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	address := registry(t)
	digest := push(t, address, "some/thing", "v1", portrait("first", "gzip"))
	other := push(t, address, "some/thing", "v2", portrait("second", "zstd"))
	e := harness.Start(t)
	name := address + "/some/thing"
	var lines []string
	for _, client := range []string{"lade", "docker"} {
		t.Run(client, func(t *testing.T) {
			run := func(want int, args ...string) string {
				t.Helper()
				out, err := e.Command(client, args...).CombinedOutput()
				if got := exitCode(err); got != want {
					t.Errorf("%s %s: exit code %d, want %d\n%s", client, strings.Join(args, " "), got, want, out)
				}
				return string(out)
			}
			out := run(0, "pull", name+":v1")
			for _, want := range []string{"v1: Pulling from some/thing", "Pull complete", "Digest: " + digest, "Status: Downloaded newer image for " + name + ":v1", name + ":v1\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			lines = append(lines, fmt.Sprint(strings.Count(out, "\n")))
			if out := run(0, "pull", name+":v1"); !strings.Contains(out, "Status: Image is up to date for "+name+":v1") {
				t.Errorf("the second time: %s", out)
			}
			if out := run(0, "pull", "-q", name+"@"+other); !strings.HasSuffix(out, name+"@"+other+"\n") {
				t.Errorf("by digest: %q", out)
			}
			if out := run(0, "images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"); !strings.Contains(out, name+" v1 "+digest) {
				t.Errorf("images: %s", out)
			}
			if out := run(0, "image", "inspect", "-f", "{{json .RepoDigests}} {{index .Config.Env 0}}", name+":v1"); !strings.Contains(out, name+"@"+digest) || !strings.Contains(out, "TEXT=first") {
				t.Errorf("inspect: %s", out)
			}
			run(0, "create", "--name", "by-digest", "--pull", "always", name+"@"+other)
			run(0, "rm", "by-digest")
			run(0, "create", "--name", "by-tag", name+":v2")
			run(0, "cp", "by-tag:/two", "-")
			run(0, "rm", "by-tag")
			if out := run(1, "pull", name+":none"); !strings.Contains(out, "manifest for "+name+":none not found") {
				t.Errorf("an unknown tag: %s", out)
			}
			if out := run(1, "pull", address+"/no/such"); !strings.Contains(out, "not found") && !strings.Contains(out, "repository does not exist") {
				t.Errorf("an unknown repository: %s", out)
			}
			if out := run(1, "pull", name+"@sha256:"+strings.Repeat("0", 64)); !strings.Contains(out, "not found") {
				t.Errorf("an unknown digest: %s", out)
			}
			run(0, "pull", "--platform", "linux/s390x", name+":v1") // as in Docker, if there is but one
			run(0, "pull", "-a", name)
			run(0, "image", "prune", "-af")
			if out := run(0, "images", "-aq"); out != "" {
				t.Errorf("left: %s", out)
			}
		})
	}
	if len(lines) == 2 && lines[0] != lines[1] {
		t.Errorf("lines that pull prints: lade %s, docker %s", lines[0], lines[1])
	}
}

// TestBadRegistry pulls from registries that lie, cut and stall: an error, and
// nothing is left.
func TestBadRegistry(t *testing.T) {
	need.Root(t)
	p := portrait("bad", "gzip")
	manifest, blobs := p.oci()
	e := harness.Start(t)
	serve := func(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, b []byte)) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v2/":
			case strings.Contains(r.URL.Path, "/manifests/"):
				w.Header().Set("Content-Type", manifestType)
				answer(w, r, manifest)
			default:
				for _, b := range blobs {
					if strings.HasSuffix(r.URL.Path, b.digest()) {
						answer(w, r, b)
						return
					}
				}
				http.NotFound(w, r)
			}
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	isBlob := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	clean := func(t *testing.T) {
		t.Helper()
		if left := leftovers(e); len(left) > 0 {
			t.Errorf("left behind: %s", strings.Join(left, " "))
		}
		if out := e.Run("images", "-aq"); out != "" {
			t.Errorf("images: %s", out)
		}
		if out := e.Run("system", "df", "--format", "{{.Type}} {{.Size}}"); !strings.Contains(out, "Images 0B") {
			t.Errorf("disk: %s", out)
		}
	}
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request, b []byte){
		"other content": func(w http.ResponseWriter, r *http.Request, b []byte) {
			if isBlob(r) {
				b = bytes.Clone(b)
				b[len(b)/2] ^= 1
			}
			_, _ = w.Write(b)
		},
		"too much": func(w http.ResponseWriter, r *http.Request, b []byte) {
			if isBlob(r) {
				b = append(bytes.Clone(b), "more"...)
			}
			_, _ = w.Write(b)
		},
		"always an error": func(w http.ResponseWriter, r *http.Request, b []byte) {
			if isBlob(r) {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			_, _ = w.Write(b)
		},
		"no JSON": func(w http.ResponseWriter, r *http.Request, b []byte) { _, _ = io.WriteString(w, "<html>hello</html>") },
		"unauthorized": func(w http.ResponseWriter, r *http.Request, b []byte) {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, answer)
			out, stderr, code := e.Try("pull", address+"/a/b:c")
			if code != 1 || stderr == "" {
				t.Errorf("exit code %d: %s%s", code, out, stderr)
			}
			t.Log(strings.TrimSpace(stderr))
			clean(t)
		})
	}
	t.Run("cuts", func(t *testing.T) { // half of each blob the first time: the pull goes on where it was
		var cut atomic.Int32
		address := serve(t, func(w http.ResponseWriter, r *http.Request, b []byte) {
			if isBlob(r) && r.Header.Get("Range") == "" && cut.Add(1) <= 2 {
				w.Header().Set("Content-Length", fmt.Sprint(len(b)))
				_, _ = w.Write(b[:len(b)/2])
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		})
		e.Run("pull", address+"/a/b:c")
		e.Run("rmi", address+"/a/b:c")
		clean(t)
	})
	t.Run("stalls", func(t *testing.T) { // the client leaves: nothing stays
		release, asked := make(chan struct{}), make(chan struct{}, len(blobs))
		address := serve(t, func(w http.ResponseWriter, r *http.Request, b []byte) {
			if isBlob(r) {
				w.Header().Set("Content-Length", fmt.Sprint(len(b)))
				_, _ = w.Write(b[:10])
				_ = http.NewResponseController(w).Flush()
				asked <- struct{}{}
				select {
				case <-release:
				case <-r.Context().Done():
				}
				return
			}
			_, _ = w.Write(b)
		})
		t.Cleanup(func() { close(release) })
		cmd := e.Command("lade", "pull", address+"/a/b:c")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := exitCode(cmd.Wait()); code != 130 {
			t.Errorf("exit code %d", code)
		}
		clean(t)
	})
	t.Run("killed", func(t *testing.T) { // laded dies in the middle of a layer: the next pull asks for the rest
		var killed atomic.Bool
		var rest atomic.Int32
		half := make(chan struct{}, len(blobs))
		address := serve(t, func(w http.ResponseWriter, r *http.Request, b []byte) {
			if !isBlob(r) || killed.Load() || bytes.Equal(b, blobs[len(blobs)-1]) { // the last one is the configuration
				if strings.HasPrefix(r.Header.Get("Range"), "bytes=10-") {
					rest.Add(1)
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = w.Write(b[:10])
			_ = http.NewResponseController(w).Flush()
			half <- struct{}{}
			<-r.Context().Done()
		})
		cmd := e.Command("lade", "pull", address+"/a/b:c")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range len(blobs) - 1 {
			<-half
		}
		for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(5 * time.Millisecond) { // what was sent is written
			if parts(t, filepath.Join(e.Dir, "data")) == len(blobs)-1 || time.Now().After(end) {
				break
			}
		}
		e.Kill()
		_ = cmd.Wait() // its engine is gone
		killed.Store(true)
		e.Launch()
		e.Run("pull", address+"/a/b:c")
		if n := int(rest.Load()); n != len(blobs)-1 {
			t.Errorf("the rest of %d layers was asked for, of %d", n, len(blobs)-1)
		}
		e.Run("rmi", address+"/a/b:c")
		clean(t)
	})
	t.Run("mirror", func(t *testing.T) { // a name of docker.io comes from the mirror, without a registry in the name
		address := serve(t, func(w http.ResponseWriter, r *http.Request, b []byte) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		})
		config, err := json.Marshal(map[string]any{"registry-mirrors": []string{"http://" + address}})
		if err != nil {
			t.Fatal(err)
		}
		e.Stop()
		if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), config, 0o600); err != nil {
			t.Fatal(err)
		}
		e.Launch()
		e.Run("pull", "some-name:c")
		e.Run("rmi", "some-name:c")
		clean(t)
	})
}

// parts counts the blobs of which something has arrived.
func parts(t *testing.T, root string) (n int) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "content/ingest/*.part"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		if st, err := os.Stat(name); err == nil && st.Size() == 10 {
			n++
		}
	}
	return n
}
