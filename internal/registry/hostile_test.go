package registry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/oci"
	"lade/internal/registry"
)

// document gives the registry a manifest or an index.
func (f *fake) document(mediaType string, v any, tags ...string) ocispec.Descriptor {
	f.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	d := forHost(image.Describe(mediaType, raw))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addManifestLocked(raw, d, tags...)
	return d
}

// forHost returns a descriptor that says it is for this machine.
func forHost(d ocispec.Descriptor) ocispec.Descriptor {
	host := oci.Host()
	d.Platform = &host
	return d
}

// index gives it one of manifests for this machine.
func (f *fake) index(list []ocispec.Descriptor, tags ...string) ocispec.Descriptor {
	f.t.Helper()
	return f.document(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	}, tags...)
}

// TestPullLies: a registry whose documents contradict themselves, or stand for
// something that leads out of a layer, is told so, and nothing of it stays.
func TestPullLies(t *testing.T) {
	falsified := func(change func(*ocispec.Manifest)) func(*fake) {
		return func(f *fake) {
			b := built(t, 2, 1000)
			f.add(b)
			var m ocispec.Manifest
			if err := json.Unmarshal(b.Manifest, &m); err != nil {
				t.Fatal(err)
			}
			change(&m)
			f.document(ocispec.MediaTypeImageManifest, m, "v1")
		}
	}
	hostile := func(files ...imagetest.File) func(*fake) {
		return func(f *fake) {
			f.add(imagetest.Build(t, imagetest.Spec{Layers: [][]byte{imagetest.Tar(t, files...)}, Compress: imagetest.Gzip}), "v1")
		}
	}
	for name, tc := range map[string]struct {
		fill func(*fake)
		kind errdefs.Kind
		text string
	}{
		"type of a layer":   {falsified(func(m *ocispec.Manifest) { m.Layers[0].MediaType = "application/x-other" }), errdefs.Invalid, "unsupported media type application/x-other of a layer"},
		"a layer too few":   {falsified(func(m *ocispec.Manifest) { m.Layers = m.Layers[:1] }), errdefs.Invalid, "the manifest has 1 layers, the config 2"},
		"size below zero":   {falsified(func(m *ocispec.Manifest) { m.Layers[0].Size = -1 }), errdefs.Invalid, "size -1"},
		"a larger size":     {falsified(func(m *ocispec.Manifest) { m.Layers[0].Size++ }), errdefs.DataLoss, "the manifest says"},
		"an endless config": {falsified(func(m *ocispec.Manifest) { m.Config.Size = 1 << 40 }), errdefs.Invalid, "invalid image config"},
		"layers exchanged":  {falsified(func(m *ocispec.Manifest) { m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0] }), errdefs.DataLoss, "wrong diff id"},
		"another digest":    {falsified(func(m *ocispec.Manifest) { m.Layers[0].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }), errdefs.NotImplemented, "md5"},
		"traversal":         {hostile(imagetest.File{Name: "../escaped", Body: "x"}), errdefs.Invalid, "../escaped"},
		"link outside":      {hostile(imagetest.File{Name: "l", Type: '1', Link: "../../etc/passwd"}), errdefs.Invalid, "../../etc/passwd"},
		"bomb":              {hostile(imagetest.File{Name: "zeros", Body: strings.Repeat("\x00", 4<<20)}), errdefs.Invalid, "max-layer-size"},
		"an endless manifest": {func(f *fake) {
			f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				_, _ = io.WriteString(w, `{"schemaVersion":2,"x":"`)
				for _, err := w.Write(make([]byte, 1<<20)); err == nil; { // until the client has enough
					_, err = w.Write(make([]byte, 1<<20))
				}
				return true
			}
		}, errdefs.Invalid, "more than"},
		"an index in an index": {func(f *fake) {
			b := built(t, 1, 10)
			f.add(b)
			f.index([]ocispec.Descriptor{f.index([]ocispec.Descriptor{forHost(b.Desc)})}, "v1")
		}, errdefs.NotFound, "no matching manifest"},
		"an index for a manifest": {func(f *fake) {
			d := f.index(nil)
			d.MediaType = ocispec.MediaTypeImageManifest
			f.index([]ocispec.Descriptor{d}, "v1")
		}, errdefs.Invalid, "media type"},
		"an index that names itself": {func(f *fake) { // what its digest forbids
			d := f.index(nil)
			d.MediaType = ocispec.MediaTypeImageManifest
			f.index([]ocispec.Descriptor{d}, "v1")
			f.mu.Lock()
			f.manifests[d.Digest.String()] = f.manifests["v1"]
			f.mu.Unlock()
		}, errdefs.DataLoss, "manifest verification failed"},
		"size of a manifest": {func(f *fake) {
			b := built(t, 1, 10)
			f.add(b)
			d := forHost(b.Desc)
			d.Size++
			f.index([]ocispec.Descriptor{d}, "v1")
		}, errdefs.DataLoss, "the index says"},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t), imagetest.Bounded(t, 1<<20)
			f.server.Config.ErrorLog = quiet()
			tc.fill(f)
			c := client(t, s, func(c *registry.Config) { c.Stall = 10 * time.Second })
			_, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), registry.PullOptions{})
			if err == nil || errdefs.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v (%v), want %v: %q", err, errdefs.KindOf(err), tc.kind, tc.text)
			}
			imagetest.Empty(t, s)
		})
	}
}

// TestTokenService: a password goes to no token service that a thief on the way
// could be, and what a service says that is none is an error.
func TestTokenService(t *testing.T) {
	var asked, password atomic.Int32
	answer := `{"token":"t0k"}`
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if _, _, ok := r.BasicAuth(); ok {
			password.Add(1)
		}
		_, _ = io.WriteString(w, answer)
	})
	plain := httptest.NewServer(service)
	defer plain.Close()
	var realm string
	f, s := newFake(t), imagetest.New(t)
	f.add(built(t, 1, 10), "v1")
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer t0k" {
			return false
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s"`, realm))
		refuse(w, 401, "UNAUTHORIZED", "authentication required")
		return true
	}
	secure := httptest.NewTLSServer(f)
	defer secure.Close()
	secure.Config.ErrorLog = quiet()
	host := strings.TrimPrefix(secure.URL, "https://")
	c := client(t, s, func(c *registry.Config) { c.Stall, c.Retries = 10*time.Second, 2 })
	me := registry.PullOptions{Auth: &apiregistry.AuthConfig{Username: "me", Password: "secret"}}
	realm = plain.URL
	if _, _, err := pull(t, c, ref(t, host+"/a/b:v1"), me); err == nil || password.Load() != 0 {
		t.Errorf("HTTPS, then HTTP: %v, the password was sent %d times", err, password.Load())
	}
	realm, answer = plain.URL, `<html>`
	if _, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), me); err == nil || asked.Load() == 0 {
		t.Errorf("a web page for a token: %v, asked %d times", err, asked.Load())
	}
	realm = "nonsense"
	if _, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), me); err == nil {
		t.Error("no URL of a token service")
	}
	imagetest.Empty(t, s)
	realm, answer = plain.URL, `{"token":"t0k"}`
	if _, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), me); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// TestRedirectLoop: a registry that sends one from here to there for ever is an
// error.
func TestRedirectLoop(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
	_, _, err := pull(t, client(t, s, func(c *registry.Config) { c.Retries = 2 }), ref(t, f.host+"/a/b:v1"), registry.PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("%v", err)
	}
	imagetest.Empty(t, s)
}

// TestRetryLater: a registry that asks to wait is not asked before, whether it
// says for how long or until when.
func TestRetryLater(t *testing.T) {
	for name, header := range map[string]func() string{
		"seconds": func() string { return "1" },
		"date":    func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) }, // whole seconds: 1 to 2 from now
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, s := newFake(t), imagetest.New(t)
			f.add(built(t, 1, 10), "v1")
			var refused, again atomic.Int64
			f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				if refused.CompareAndSwap(0, time.Now().UnixNano()) {
					w.Header().Set("Retry-After", header())
					refuse(w, 503, "UNAVAILABLE", "come back later")
					return true
				}
				again.CompareAndSwap(0, time.Now().UnixNano())
				return false
			}
			if _, _, err := pull(t, client(t, s, func(c *registry.Config) { c.Stall = 30 * time.Second }), ref(t, f.host+"/a/b:v1"), registry.PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if waited := time.Duration(again.Load() - refused.Load()); waited < 900*time.Millisecond {
				t.Errorf("asked again after %s", waited)
			}
		})
	}
}

// TestConcurrency: of one pull so many layers come at a time as are allowed, and
// not less, if there are as many.
func TestConcurrency(t *testing.T) {
	const allowed = 2
	f, s := newFake(t), imagetest.New(t)
	var spec imagetest.Spec
	for i := range 6 {
		spec.Layers = append(spec.Layers, imagetest.Tar(t, imagetest.File{Name: fmt.Sprint("f", i), Body: fmt.Sprint(i)}))
	}
	b := imagetest.Build(t, spec)
	f.add(b, "v1")
	var now, most atomic.Int32
	both := make(chan struct{})
	var once sync.Once
	f.meddle = func(_ http.ResponseWriter, r *http.Request) bool {
		_, name, ok := strings.Cut(r.URL.Path, "/blobs/")
		if !ok || digest.Digest(name) == b.ID {
			return false
		}
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); old < n && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		if n == allowed {
			once.Do(func() { close(both) })
		}
		select { // the first waits for the second
		case <-both:
		case <-time.After(30 * time.Second):
			t.Error("one layer at a time")
		}
		return false
	}
	c := client(t, s, func(c *registry.Config) { c.Concurrency, c.Total, c.Stall = allowed, 10, time.Minute })
	if _, _, err := pull(t, c, ref(t, f.host+"/a/b:v1"), registry.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if most.Load() != allowed {
		t.Errorf("%d layers at a time", most.Load())
	}
}
