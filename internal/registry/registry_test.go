package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	"lade/internal/oci"
	"lade/internal/reference"
	"lade/internal/registry"
)

// fake is a registry that serves images and can be told to misbehave.
type fake struct {
	t      *testing.T
	server *httptest.Server
	host   string

	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	manifests map[string][]byte // by tag and digest
	types     map[string]string
	requests  []string

	// meddle may answer a request itself; it then returns true.
	meddle func(w http.ResponseWriter, r *http.Request) bool
}

// quiet drops what a server says of connections that a test cuts.
func quiet() *log.Logger { return slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) }

func newFake(t *testing.T) *fake {
	f := &fake{t: t, blobs: map[digest.Digest][]byte{}, manifests: map[string][]byte{}, types: map[string]string{}}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	f.host = strings.TrimPrefix(f.server.URL, "http://")
	return f
}

func (f *fake) add(b *imagetest.Built, tags ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d, body := range b.Blobs {
		f.blobs[d] = body
	}
	f.addManifestLocked(b.Manifest, b.Desc, tags...)
}

func (f *fake) addManifestLocked(raw []byte, d ocispec.Descriptor, tags ...string) {
	for _, name := range append(tags, d.Digest.String()) {
		f.manifests[name], f.types[name] = raw, d.MediaType
	}
}

func (f *fake) count(part string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range"))
	meddle := f.meddle
	f.mu.Unlock()
	if meddle != nil && meddle(w, r) {
		return
	}
	f.serve(w, r)
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/a/b/")
	kind, name, _ := strings.Cut(rest, "/")
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.URL.Path == "/v2/":
		return
	case !ok:
		refuse(w, 404, "NAME_UNKNOWN", "repository name not known to registry")
	case kind == "manifests":
		raw, ok := f.manifests[name]
		if !ok {
			refuse(w, 404, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		w.Header().Set("Content-Type", f.types[name])
		w.Header().Set("Docker-Content-Digest", string(digest.FromBytes(raw)))
		w.Write(raw)
	case kind == "blobs":
		b, ok := f.blobs[digest.Digest(name)]
		if !ok {
			refuse(w, 404, "BLOB_UNKNOWN", "blob unknown to registry")
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b)))
	}
}

func client(t *testing.T, s *image.Images, change func(*registry.Config)) *registry.Client {
	t.Helper()
	cfg := registry.Config{Images: s, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Backoff: time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	c, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func ref(t *testing.T, s string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// built makes an image of n layers with some bulk in the last.
func built(t *testing.T, n, bulk int) *imagetest.Built {
	t.Helper()
	var s imagetest.Spec
	for i := range n {
		body := fmt.Sprint("layer ", i)
		if i == n-1 {
			body += strings.Repeat("x", bulk)
		}
		s.Layers = append(s.Layers, imagetest.Tar(t, imagetest.File{Name: fmt.Sprint("file", i), Body: body}))
	}
	return imagetest.Build(t, s)
}

func pull(t *testing.T, c *registry.Client, r reference.Reference, o registry.PullOptions) (img *image.Image, lines []string, err error) {
	t.Helper()
	o.Progress = func(m jsonstream.Message) {
		if m.Progress == nil {
			lines = append(lines, strings.TrimPrefix(m.ID+": "+m.Status, ": "))
		}
	}
	img, err = c.Pull(t.Context(), r, o)
	return img, lines, err
}

func TestPull(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	b := built(t, 4, 10000)
	f.add(b, "v1")
	c := client(t, s, nil)
	r := ref(t, f.host+"/a/b:v1")
	img, lines, err := pull(t, c, r, registry.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if img.ID != b.ID || img.Manifest.Digest != b.Desc.Digest || len(img.Names) != 1 || len(img.Digests) != 1 {
		t.Errorf("the image that was pulled: %+v", img)
	}
	if lines[0] != "v1: Pulling from a/b" {
		t.Errorf("began with %q", lines[0])
	}
	want := []string{"Digest: " + b.Desc.Digest.String(), "Status: Downloaded newer image for " + f.host + "/a/b:v1"}
	if got := lines[len(lines)-2:]; !slices.Equal(got, want) {
		t.Errorf("ended with %q, want %q", got, want)
	}
	for _, l := range b.Layers {
		id := digest.Digest(l.Digest).Short()
		for _, st := range []string{"Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"} {
			if !slices.Contains(lines, id+": "+st) {
				t.Errorf("no %q for %s in %q", st, id, lines)
			}
		}
	}
	// Again: nothing is fetched but the manifest.
	before := f.count("/blobs/")
	_, lines, err = pull(t, c, r, registry.PullOptions{})
	if err != nil || f.count("/blobs/") != before {
		t.Errorf("%v, %d blobs more", err, f.count("/blobs/")-before)
	}
	if last := lines[len(lines)-1]; last != "Status: Image is up to date for "+f.host+"/a/b:v1" {
		t.Errorf("ended with %q", last)
	}
	// By digest.
	byDigest := r.WithDigest(digest.Digest(b.Desc.Digest))
	if img, _, err = pull(t, c, byDigest, registry.PullOptions{}); err != nil || img.ID != b.ID {
		t.Errorf("by digest: %v", err)
	}
	if blobs, snaps, ingests := imagetest.Objects(t, s); blobs != 6 || snaps != 4 || ingests != 0 {
		t.Errorf("%d blobs, %d snapshots, %d ingests", blobs, snaps, ingests)
	}
	if _, err := s.Remove(t.Context(), r.Familiar(), image.RemoveOptions{}, func(digest.Digest) []image.User { return nil }); err != nil {
		t.Fatal(err)
	}
	imagetest.Empty(t, s)
}

func TestPullIndex(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.DockerManifestList}
	var images []*imagetest.Built
	for _, p := range []string{"linux/s390x", "linux/arm/v7", oci.FormatPlatform(oci.Host())} {
		platform, err := oci.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		b := imagetest.Build(t, imagetest.Spec{Platform: platform, Docker: true, Compress: imagetest.Gzip,
			Layers: [][]byte{imagetest.Tar(t, imagetest.File{Name: "arch", Body: p})}})
		f.add(b)
		images = append(images, b)
		d := b.Desc
		d.Platform = &platform
		index.Manifests = append(index.Manifests, d)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	desc := image.Describe(oci.DockerManifestList, raw)
	f.mu.Lock()
	f.addManifestLocked(raw, desc, "multi")
	f.mu.Unlock()
	c := client(t, s, nil)
	r := ref(t, f.host+"/a/b:multi")
	img, _, err := pull(t, c, r, registry.PullOptions{})
	if err != nil || img.ID != images[2].ID || img.Target.Digest != desc.Digest || img.Digests[0].Digest != digest.Digest(desc.Digest) {
		t.Fatalf("the platform of this machine from an index: %+v, %v", img, err)
	}
	arm := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	if img, _, err = pull(t, c, r, registry.PullOptions{Platform: &arm}); err != nil || img.ID != images[1].ID {
		t.Errorf("arm: %+v, %v", img, err)
	}
	riscv := ocispec.Platform{OS: "linux", Architecture: "riscv64"}
	_, _, err = pull(t, c, r, registry.PullOptions{Platform: &riscv})
	if errdefs.KindOf(err) != errdefs.NotFound || err.Error() != "no matching manifest for linux/riscv64 in the manifest list entries" {
		t.Errorf("riscv64: %v", err)
	}
	info, err := c.Inspect(t.Context(), r, nil)
	if err != nil || info.Descriptor.Digest != desc.Digest || len(info.Platforms) != 3 {
		t.Errorf("an inspected index: %+v, %v", info, err)
	}
}

func TestPullErrors(t *testing.T) {
	good := built(t, 2, 1000)
	layer := digest.Digest(good.Layers[1].Digest)
	on := func(part string, h http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, part) {
				h(w, r)
				return true
			}
			return false
		}
	}
	send := func(b string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, b) }
	}
	for name, tc := range map[string]struct {
		ref    string
		meddle func(http.ResponseWriter, *http.Request) bool
		kind   errdefs.Kind
		text   string // HOST is replaced
	}{
		"unknown tag":  {"a/b:none", nil, errdefs.NotFound, "manifest for HOST/a/b:none not found: manifest unknown: manifest unknown"},
		"unknown repo": {"x/y:v1", nil, errdefs.NotFound, "repository HOST/x/y not found: name unknown: repository name not known to registry"},
		"denied": {"a/b:v1", on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, 403, "DENIED", "requested access to the resource is denied")
		}), errdefs.NotFound, "pull access denied for HOST/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"},
		"unauthorized": {"a/b:v1", on("/v2/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			refuse(w, 401, "UNAUTHORIZED", "authentication required")
		}), errdefs.Unauthorized, `Get "http://HOST/v2/a/b/manifests/v1": no basic auth credentials`},
		"rate limit": {"a/b:v1", on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			refuse(w, 429, "TOOMANYREQUESTS", "slow down")
		}), errdefs.Exhausted, "toomanyrequests: slow down"},
		"always 503":        {"a/b:v1", on("/blobs/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), errdefs.Unavailable, "received unexpected HTTP status: 503 Service Unavailable"},
		"lies about length": {"a/b:v1", on(string(layer), send("short")), errdefs.DataLoss, "the registry sends 5 bytes"},
		"lies about digest": {"a/b:v1", on(string(layer), send(strings.Repeat("y", int(good.Layers[1].Size)))), errdefs.DataLoss, "filesystem layer verification failed for digest " + string(layer)},
		"manifest changes": {"a/b:v1", on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", string(good.ID))
			w.Write(good.Manifest)
		}), errdefs.DataLoss, "manifest verification failed for digest " + string(good.ID)},
		"config changes": {"a/b:v1", on(string(good.ID), send(strings.Repeat("c", len(good.Config)))), errdefs.DataLoss, "image config verification failed"},
		"schema 1":       {"a/b:v1", on("/manifests/", send(`{"schemaVersion":1,"fsLayers":[]}`)), errdefs.Invalid, "schema 1 are not supported"},
		"an artifact":    {"a/b:v1", on("/manifests/", send(strings.Replace(string(good.Manifest), ocispec.MediaTypeImageConfig, "application/vnd.cncf.helm.config.v1+json", 1))), errdefs.Invalid, "unsupported media type application/vnd.cncf.helm.config.v1+json: not a container image"},
		"a web page":     {"a/b:v1", on("/manifests/", send(`<html>`)), errdefs.Invalid, "invalid manifest"},
		"stalls at once": {"a/b:v1", on("/manifests/", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), errdefs.Unavailable, "HOST"},
		"stalls in a blob": {"a/b:v1", on(string(layer), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(good.Layers[1].Size))
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), errdefs.Unavailable, "has sent nothing for"},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t), imagetest.New(t)
			f.add(good, "v1")
			f.meddle = tc.meddle
			c := client(t, s, func(c *registry.Config) {
				if c.Retries = 2; strings.HasPrefix(name, "stalls") {
					c.Stall = 300 * time.Millisecond
				}
			})
			_, _, err := pull(t, c, ref(t, f.host+"/"+tc.ref), registry.PullOptions{})
			want := strings.ReplaceAll(tc.text, "HOST", f.host)
			if errdefs.KindOf(err) != tc.kind || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v (%v), want %v: %q", err, errdefs.KindOf(err), tc.kind, want)
			}
			if len(s.List()) != 0 {
				t.Error("an image is there")
			}
			if k := errdefs.KindOf(err); k != errdefs.Unavailable {
				imagetest.Empty(t, s)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		host := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err = pull(t, client(t, imagetest.New(t), nil), ref(t, host+"/a/b"), registry.PullOptions{})
		if errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a registry that nobody serves: %v", err)
		}
	})
}

// TestResume cuts the transfer again and again: every attempt goes on where
// the one before ended, by ranges where the registry has them.
func TestResume(t *testing.T) {
	for name, ranges := range map[string]bool{"ranges": true, "no ranges": false} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t), imagetest.New(t)
			b := built(t, 1, 400_000)
			f.add(b, "v1")
			body := b.Blobs[digest.Digest(b.Layers[0].Digest)]
			sent := atomic.Int64{}
			f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, b.Layers[0].Digest.String()) {
					return false
				}
				from := 0
				if h := r.Header.Get("Range"); h != "" && ranges {
					if _, err := fmt.Sscanf(h, "bytes=%d-", &from); err != nil {
						t.Error(err)
					}
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
					w.Header().Set("Content-Length", fmt.Sprint(len(body)-from))
					w.WriteHeader(206)
				} else {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				}
				part := body[from:]
				cut := 50_000
				if !ranges {
					cut = int(sent.Load()) + 50_000
				}
				if len(part) > cut {
					part = part[:cut]
				}
				n, _ := w.Write(part)
				sent.Add(int64(n))
				if len(part) < len(body)-from {
					panic(http.ErrAbortHandler)
				}
				return true
			}
			f.server.Config.ErrorLog = quiet()
			c := client(t, s, func(c *registry.Config) { c.Retries = 2 })
			if _, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), registry.PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if ranges && sent.Load() != int64(len(body)) {
				t.Errorf("%d bytes were sent for a blob of %d", sent.Load(), len(body))
			}
		})
	}
}

// TestResumeLater cancels a pull; the next one does not fetch again what came.
func TestResumeLater(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t)
	b := built(t, 2, 200_000)
	f.add(b, "v1")
	s, end := imagetest.Open(t, dir)
	body := b.Blobs[digest.Digest(b.Layers[1].Digest)]
	half := len(body) / 2
	ctx, cancel := context.WithCancel(t.Context())
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, b.Layers[1].Digest.String()) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body[:half])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	c := client(t, s, func(c *registry.Config) { c.Stall = 10 * time.Second })
	_, err := c.Pull(ctx, ref(t, f.host+"/a/b:v1"), registry.PullOptions{Progress: func(m jsonstream.Message) {
		// Cancel when half of the big layer has come.
		if in, _ := s.Content().Ingests(); len(in) == 1 && in[0].Offset == int64(half) {
			cancel()
		}
	}})
	if err == nil {
		t.Fatal("not cancelled")
	}
	if errdefs.KindOf(err) != errdefs.Canceled {
		t.Errorf("a pull that was cancelled: %v", err)
	}
	end()

	// The engine starts again, and collects.
	s, end = imagetest.Open(t, dir)
	defer end()
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.meddle, f.requests = nil, nil
	f.mu.Unlock()
	if _, _, err := pull(t, client(t, s, nil), ref(t, f.host+"/a/b:v1"), registry.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := f.count(b.Layers[0].Digest.String()); n != 0 {
		t.Errorf("the finished layer was fetched %d times again", n)
	}
	if n := f.count(fmt.Sprintf("bytes=%d-", half)); n != 1 {
		t.Errorf("the cut layer was not resumed: %q", f.requests)
	}
}

func TestRetryAfter(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	b := built(t, 3, 10)
	f.add(b, "v1")
	var n atomic.Int32
	f.meddle = func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(1)%2 == 1 { // every other request
			w.Header().Set("Retry-After", "0")
			refuse(w, 429, "TOOMANYREQUESTS", "slow down")
			return true
		}
		return false
	}
	if _, _, err := pull(t, client(t, s, func(c *registry.Config) { c.Retries = 20 }), ref(t, f.host+"/a/b:v1"), registry.PullOptions{}); err != nil {
		t.Error(err)
	}
}

// TestCredentialsStay checks that a redirect to another host does not carry
// the credentials there.
func TestCredentialsStay(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	b := built(t, 1, 10)
	f.add(b, "v1")
	var leaked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		f.serve(w, r)
	}))
	defer other.Close()
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		if !ok || user != "me" || password != "secret" {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	c := client(t, s, nil)
	r := ref(t, f.host+"/a/b:v1")
	if _, _, err := pull(t, c, r, registry.PullOptions{Auth: &apiregistry.AuthConfig{Username: "me", Password: "wrong"}}); errdefs.KindOf(err) != errdefs.Unauthorized {
		t.Errorf("wrong password: %v", err)
	}
	if _, _, err := pull(t, c, r, registry.PullOptions{Auth: &apiregistry.AuthConfig{Username: "me", Password: "secret"}}); err != nil {
		t.Error(err)
	}
	if leaked.Load() {
		t.Error("the credentials went to another host")
	}
	if _, err := c.Login(t.Context(), apiregistry.AuthConfig{Username: "me", Password: "secret", ServerAddress: f.host}); err != nil {
		t.Errorf("login: %v", err)
	}
	if _, err := c.Login(t.Context(), apiregistry.AuthConfig{Username: "me", Password: "no", ServerAddress: f.host}); errdefs.KindOf(err) != errdefs.Unauthorized {
		t.Errorf("login with a wrong password: %v", err)
	}
}

func TestToken(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	b := built(t, 1, 10)
	f.add(b, "v1")
	var scope atomic.Value
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			scope.Store(r.URL.Query().Get("scope"))
			fmt.Fprint(w, `{"token":"t0k"}`)
			return true
		}
		if r.Header.Get("Authorization") != "Bearer t0k" {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s",scope="repository:a/b:pull"`, f.host))
			refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return true
		}
		return false
	}
	if _, _, err := pull(t, client(t, s, nil), ref(t, f.host+"/a/b:v1"), registry.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if scope.Load() != "repository:a/b:pull" {
		t.Errorf("scope %q", scope.Load())
	}
}

func TestMirror(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	b := built(t, 1, 10)
	f.add(b, "v1")
	c := client(t, s, func(c *registry.Config) { c.Mirrors = []string{"http://127.0.0.1:1", f.server.URL} })
	img, lines, err := pull(t, c, ref(t, "a/b:v1"), registry.PullOptions{})
	if err != nil || img.Names[0].Familiar() != "a/b:v1" {
		t.Fatalf("a pull by way of a mirror: %v, %v", img, err)
	}
	if last := lines[len(lines)-1]; last != "Status: Downloaded newer image for a/b:v1" {
		t.Errorf("the last line is %q", last)
	}
	for _, bad := range []string{"ftp://x", "nonsense", "http://x/?query"} {
		if _, err := registry.New(registry.Config{Images: s, Mirrors: []string{bad}}); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("mirror %q: %v", bad, err)
		}
	}
}

// TestParallel pulls two images with common layers at the same time.
func TestParallel(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	base := built(t, 5, 100_000)
	more := imagetest.Build(t, imagetest.Spec{Layers: append(slices.Clone(layersOf(base)), imagetest.Tar(t, imagetest.File{Name: "more", Body: "x"}))})
	f.add(base, "base")
	f.add(more, "more")
	c := client(t, s, nil)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			tag := []string{"base", "more"}[i%2]
			if _, err := c.Pull(t.Context(), ref(t, f.host+"/a/b:"+tag), registry.PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, l := range base.Layers {
		if n := f.count(l.Digest.String()); n != 1 {
			t.Errorf("layer %s was fetched %d times", l.Digest, n)
		}
	}
	if _, snaps, _ := imagetest.Objects(t, s); snaps != 6 {
		t.Errorf("%d snapshots", snaps)
	}
}

func layersOf(b *imagetest.Built) (out [][]byte) {
	for _, l := range b.Layers {
		out = append(out, b.Blobs[digest.Digest(l.Digest)])
	}
	return out
}

// TestRealRegistry pulls from the reference implementation.
func TestRealRegistry(t *testing.T) {
	host := serve(t, "")
	b := imagetest.Build(t, imagetest.Spec{Docker: true, Compress: imagetest.Gzip, Layers: layersOf(built(t, 4, 300_000))})
	for d, body := range b.Blobs {
		push(t, host, "a/b", d, body)
	}
	req, err := http.NewRequest(http.MethodPut, "http://"+host+"/v2/a/b/manifests/v1", strings.NewReader(string(b.Manifest)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", b.Desc.MediaType)
	answered(t, req, http.StatusCreated)

	s := imagetest.New(t)
	c := client(t, s, nil)
	img, _, err := pull(t, c, ref(t, host+"/a/b:v1"), registry.PullOptions{})
	if err != nil || img.ID != b.ID || img.Manifest.Digest != b.Desc.Digest {
		t.Fatalf("a pull of what was pushed: %+v, %v", img, err)
	}
	_, _, err = pull(t, c, ref(t, host+"/a/b:none"), registry.PullOptions{})
	if want := "manifest for " + host + "/a/b:none not found: manifest unknown: manifest unknown"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	all, err := c.PullAll(t.Context(), ref(t, host+"/a/b"), registry.PullOptions{})
	if err != nil || len(all) != 1 {
		t.Errorf("all tags: %d, %v", len(all), err)
	}
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func answered(t *testing.T, req *http.Request, want int) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %s: %s", req.Method, req.URL, resp.Status, b)
	}
	return resp
}

func push(t *testing.T, host, repo string, d digest.Digest, body []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+host+"/v2/"+repo+"/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := answered(t, req, http.StatusAccepted).Location()
	if err != nil {
		t.Fatal(err)
	}
	q := to.Query()
	q.Set("digest", string(d))
	to.RawQuery = q.Encode()
	if req, err = http.NewRequest(http.MethodPut, to.String(), strings.NewReader(string(body))); err != nil {
		t.Fatal(err)
	}
	answered(t, req, http.StatusCreated)
}

// TestRanges pulls a layer from a registry that is slow on each connection, and
// from one that also forgets about ranges when it comes to them.
func TestRanges(t *testing.T) {
	for name, lies := range map[string]bool{"ranges": false, "no ranges after all": true} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t), imagetest.New(t)
			b := built(t, 1, 9<<20)
			f.add(b, "v1")
			layer := b.Layers[0].Digest.String()
			body := b.Blobs[digest.Digest(layer)]
			var now, most, parts atomic.Int32
			f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, layer) {
					return false
				}
				if h := r.Header.Get("Range"); h != "" && !strings.HasSuffix(h, fmt.Sprintf("-%d", len(body)-1)) {
					parts.Add(1)
					if lies { // the whole blob, though a part was asked for
						r.Header.Del("Range")
					}
				}
				n := now.Add(1)
				defer now.Add(-1)
				for most.Load() < n {
					most.Store(n)
				}
				http.ServeContent(&slow{ResponseWriter: w}, r, "", time.Time{}, strings.NewReader(string(body)))
				return true
			}
			c := client(t, s, func(c *registry.Config) { c.Settle, c.SplitSize, c.Stall = 20*time.Millisecond, 1<<20, 10*time.Second })
			if _, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), registry.PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if parts.Load() == 0 || !lies && most.Load() < 2 {
				t.Errorf("%d parts, at most %d at a time", parts.Load(), most.Load())
			}
		})
	}
}

// slow takes its time for each piece of an answer.
type slow struct{ http.ResponseWriter }

func (s *slow) Write(b []byte) (int, error) {
	time.Sleep(4 * time.Millisecond) // for 32 KiB: the limit of the connection
	n, err := s.ResponseWriter.Write(b)
	if err == nil {
		err = http.NewResponseController(s.ResponseWriter).Flush()
	}
	return n, err
}

// TestMirrorFails passes over a mirror that has the manifest and not the layers.
func TestMirrorFails(t *testing.T) {
	bad, good, s := newFake(t), newFake(t), imagetest.New(t)
	b := built(t, 3, 1000)
	bad.add(b, "v1")
	good.add(b, "v1")
	bad.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, b.Layers[1].Digest.String()) {
			refuse(w, 404, "BLOB_UNKNOWN", "blob unknown to registry")
			return true
		}
		if r.URL.Query().Get("ns") != "registry.test" {
			t.Errorf("a mirror is not told whom it stands for: %s", r.URL)
		}
		return false
	}
	with := func(h registry.Host, certs string) *registry.Client {
		return client(t, s, func(c *registry.Config) {
			c.Registries, c.CertDirs = map[string]registry.Host{"registry.test": h}, []string{certs}
		})
	}
	r := ref(t, "registry.test/a/b:v1")
	img, _, err := pull(t, with(registry.Host{Mirrors: []string{bad.server.URL, good.server.URL}}, ""), r, registry.PullOptions{})
	if err != nil || img.Names[0] != r {
		t.Fatalf("a pull by the second mirror: %+v, %v", img, err)
	}
	// The same by containerd's file; a mirror at a path of its own, which sends
	// elsewhere for blobs.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "" {
			t.Error("the header went elsewhere")
		}
		good.serve(w, r)
	}))
	defer other.Close()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "registry.test"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("server = %q\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n[host.%q]\noverride_path = true\n[host.%[3]q.header]\nX-Key = [\"k\"]\n",
		"https://127.0.0.1:1", "http://127.0.0.1:1", good.server.URL+"/proxy")
	if err := os.WriteFile(filepath.Join(dir, "registry.test", "hosts.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	good.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Key") != "k" {
			t.Error("the header is missing")
		}
		rest, ok := strings.CutPrefix(r.URL.Path, "/proxy/")
		if !ok {
			t.Errorf("path %s", r.URL.Path)
		}
		r.URL.Path = "/v2/" + rest
		if strings.Contains(rest, "/blobs/") {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	for _, img := range s.List() { // so that the blobs are fetched again
		if _, err := s.Remove(t.Context(), string(img.ID), image.RemoveOptions{Force: true}, func(digest.Digest) []image.User { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := pull(t, with(registry.Host{}, dir), r, registry.PullOptions{}); err != nil {
		t.Errorf("hosts.toml: %v", err)
	}
	for _, bad := range []string{"[", "ca = 3", "server = \"ftp://x\"", "client = [[]]", "[host.\"https://x\"]\ncapabilities = [\"fly\"]", "[host.\"https://x\".header]\nx = 1"} {
		if err := os.WriteFile(filepath.Join(dir, "registry.test", "hosts.toml"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := pull(t, with(registry.Host{}, dir), r, registry.PullOptions{}); errdefs.KindOf(err) != errdefs.Invalid || !strings.Contains(err.Error(), "hosts.toml") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestTotal pulls many images; no more than so many layers come at a time.
// Configurations, which are small, are not counted.
func TestTotal(t *testing.T) {
	const total = 2
	f, s := newFake(t), imagetest.New(t)
	images := make([]*imagetest.Built, 4)
	layers := map[string]bool{} // by the last part of their path
	for i := range images {
		images[i] = imagetest.Build(t, imagetest.Spec{Layers: [][]byte{
			imagetest.Tar(t, imagetest.File{Name: "a", Body: fmt.Sprint(i)}), imagetest.Tar(t, imagetest.File{Name: "b", Body: fmt.Sprint(i)}),
		}})
		f.add(images[i], fmt.Sprint("v", i))
		for _, l := range images[i].Layers {
			layers[l.Digest.String()] = true
		}
	}
	var now, most atomic.Int32
	f.meddle = func(_ http.ResponseWriter, r *http.Request) bool {
		if !layers[path.Base(r.URL.Path)] {
			return false
		}
		n := now.Add(1)
		for old := most.Load(); old < n && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(5 * time.Millisecond) // so that there could be more
		now.Add(-1)                      // before the answer, with which the client's next request may come
		return false
	}
	c := client(t, s, func(c *registry.Config) { c.Total = total })
	var wg sync.WaitGroup
	for i := range images {
		wg.Go(func() {
			if _, err := c.Pull(t.Context(), ref(t, fmt.Sprint(f.host, "/a/b:v", i)), registry.PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > total {
		t.Errorf("%d layers at a time", n)
	}
}

// TestIdentityToken logs in at a registry with a token service, which gives an
// identity token, and pulls with that.
func TestIdentityToken(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	f.add(built(t, 1, 10), "v1")
	var scopes atomic.Value
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			switch {
			case r.Method == http.MethodPost && r.PostFormValue("grant_type") == "refresh_token" && r.PostFormValue("refresh_token") == "id3nt1ty":
				scopes.Store(r.PostFormValue("scope"))
				fmt.Fprint(w, `{"access_token":"t0k"}`)
			case user == "me" && password == "secret" && r.URL.Query().Get("offline_token") == "true":
				fmt.Fprint(w, `{"token":"t0k","refresh_token":"id3nt1ty"}`)
			case user == "me" && password == "secret":
				fmt.Fprint(w, `{"token":"t0k"}`)
			default:
				refuse(w, 401, "UNAUTHORIZED", "incorrect username or password")
			}
			return true
		}
		if r.Header.Get("Authorization") != "Bearer t0k" {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s"`, f.host))
			refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return true
		}
		return false
	}
	c := client(t, s, nil)
	token, err := c.Login(t.Context(), apiregistry.AuthConfig{Username: "me", Password: "secret", ServerAddress: f.host})
	if err != nil || token != "id3nt1ty" {
		t.Fatalf("a login with an identity token: %q, %v", token, err)
	}
	if _, err := c.Login(t.Context(), apiregistry.AuthConfig{Username: "me", Password: "wrong", ServerAddress: f.host}); errdefs.KindOf(err) != errdefs.Unauthorized {
		t.Errorf("a wrong password: %v", err)
	}
	if _, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), registry.PullOptions{Auth: &apiregistry.AuthConfig{IdentityToken: token}}); err != nil {
		t.Fatal(err)
	}
	if scopes.Load() != "repository:a/b:pull" {
		t.Errorf("scope %q", scopes.Load())
	}
}

func TestSearch(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/search" {
			return false
		}
		if q := r.URL.Query(); q.Get("q") != "some/thing" || q.Get("n") != "7" {
			t.Errorf("asked %s", r.URL)
		}
		fmt.Fprint(w, `{"num_results":1,"query":"x","results":[{"name":"some/thing","star_count":3,"is_official":true,"description":"d"}]}`)
		return true
	}
	c := client(t, s, nil)
	found, err := c.Search(t.Context(), registry.SearchOptions{Term: f.host + "/some/thing", Limit: 7})
	if err != nil || len(found) != 1 || found[0].Name != "some/thing" || found[0].StarCount != 3 || !found[0].IsOfficial {
		t.Errorf("found: %+v, %v", found, err)
	}
	f.meddle = nil
	_, err = c.Search(t.Context(), registry.SearchOptions{Term: f.host + "/x"})
	if want := "registry " + f.host + " has no search: it lacks version 1 of the registry API"; errdefs.KindOf(err) != errdefs.NotImplemented || err.Error() != want {
		t.Errorf("a registry without search: %v", err)
	}
	if _, err = c.Search(t.Context(), registry.SearchOptions{Term: "x", Limit: 101}); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("more results than there may be: %v", err)
	}
}

// TestReload changes the mirrors while a pull is under way, which goes on; what
// another pull wants of the same blobs it does not fetch again.
func TestReload(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	b := built(t, 1, 1000)
	f.add(b, "v1")
	cfg := registry.Config{Images: s, Logger: slog.New(slog.DiscardHandler)}
	live, err := registry.NewLive(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { live.Client().Close() }()
	reached, on := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.meddle = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, b.Layers[0].Digest.String()) {
			once.Do(func() { close(reached) })
			<-on
		}
		return false
	}
	var wg sync.WaitGroup
	get := func(name string) {
		c := live.Client()
		wg.Go(func() {
			if _, err := c.Pull(t.Context(), ref(t, name), registry.PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	get(f.host + "/a/b:v1")
	<-reached
	cfg.Mirrors = []string{"nonsense"}
	if err := live.Reload(cfg); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("a bad mirror: %v", err)
	}
	cfg.Mirrors = []string{f.server.URL}
	if err := live.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	get("a/b:v1") // of docker.io, by the mirror
	close(on)
	wg.Wait()
	if n := f.count(b.Layers[0].Digest.String()); n != 1 {
		t.Errorf("the layer was fetched %d times", n)
	}
}

// TestStargz pulls a layer in eStargz: members of gzip, one for each entry, then a
// table of contents and a footer, which is gzip without content.
func TestStargz(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	plain := imagetest.Tar(t, imagetest.File{Name: "file", Body: "lazy"}, imagetest.File{Name: "stargz.index.json", Body: `{"version":1}`})
	b := imagetest.Build(t, imagetest.Spec{Docker: true, Layers: [][]byte{plain}, Compress: func(t testing.TB, b []byte) []byte {
		var out []byte
		for part := range slices.Chunk(b, 512) {
			out = append(out, imagetest.Gzip(t, part)...)
		}
		// RFC 1952 2.3.1.1: the extra field holds where the table begins.
		extra := fmt.Sprintf("SG\x16\x00%016xSTARGZ", len(out))
		footer := append([]byte{0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, byte(len(extra)), 0}, extra...)
		return append(append(out, footer...), 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
	}})
	f.add(b, "v1")
	img, _, err := pull(t, client(t, s, nil), ref(t, f.host+"/a/b:v1"), registry.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.Snapshotter().Root(t.Context(), img.Top())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root.Path, "file")); err != nil || string(got) != "lazy" {
		t.Errorf("a file of the layer: %q, %v", got, err)
	}
}
