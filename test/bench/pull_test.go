package bench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"lade/internal/need"
	"lade/test/harness"
)

// pictureLayers is how many layers the image has that is pulled.
const pictureLayers = 5

// bigPicture is an image of real files, as blobs in a directory.
type bigPicture struct {
	dir      string
	blobs    []string // file names of the layers: their digests' digits
	config   string
	manifest []byte
	size     int64 // bytes of the files
	files    int
}

// stored is a blob that is written to a directory under its digest.
func stored(t *testing.T, dir string, body []byte) string {
	t.Helper()
	name := fmt.Sprintf("%x", sha256.Sum256(body))
	if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
		t.Error(err)
	}
	return name
}

// paint packs regular files of this machine, of up to 1 MB each and in the order
// of their names, into layers of the same size. BENCH_IMAGE_MB is the size of all;
// 500 by default.
func paint(t *testing.T) *bigPicture {
	t.Helper()
	mb, err := strconv.ParseInt(os.Getenv("BENCH_IMAGE_MB"), 10, 64)
	if err != nil {
		mb = 500
	}
	each := mb << 20 / pictureLayers
	p := &bigPicture{dir: t.TempDir()}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	}
	p.blobs = make([]string, pictureLayers)
	layers, diffs := make([]descriptor, pictureLayers), make([]string, pictureLayers)
	var plain *bytes.Buffer
	var w *tar.Writer
	n := -1 // the layer that is written
	var packing sync.WaitGroup
	begin := func() {
		n, plain = n+1, new(bytes.Buffer)
		w = tar.NewWriter(plain)
	}
	flush := func() {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		body, i := plain.Bytes(), n
		packing.Go(func() {
			diffs[i] = fmt.Sprintf("sha256:%x", sha256.Sum256(body))
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			_, err := z.Write(body)
			if err = errors.Join(err, z.Close()); err != nil {
				t.Error(err)
			}
			p.blobs[i] = stored(t, p.dir, packed.Bytes())
			layers[i] = descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", "sha256:" + p.blobs[i], int64(packed.Len())}
		})
	}
	begin()
	known := map[string]bool{}
	parents := func(name string) { // of a layer of its own each
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			key := fmt.Sprint(n, dir)
			if known[key] {
				return
			}
			known[key] = true
			defer func() {
				if err := w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
					t.Fatal(err)
				}
			}()
		}
	}
	err = filepath.WalkDir("/usr", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what went meanwhile is left out
		}
		body, err := os.ReadFile(name)
		if err != nil || len(body) > 1<<20 {
			return nil // as above
		}
		rel := strings.TrimPrefix(name, "/")
		parents(rel)
		if err := w.WriteHeader(&tar.Header{Name: rel, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
		p.size += int64(len(body))
		p.files++
		if int64(plain.Len()) > each {
			flush()
			if n == pictureLayers-1 {
				return fs.SkipAll
			}
			begin()
		}
		return nil
	})
	packing.Wait()
	if err != nil || layers[pictureLayers-1].Size == 0 {
		t.Fatalf("%d layers of %d MB, %v: /usr is too small (BENCH_IMAGE_MB)", n, mb, err)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.config = stored(t, p.dir, config)
	p.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
		"config": descriptor{"application/vnd.oci.image.config.v1+json", "sha256:" + p.config, int64(len(config))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ServeHTTP is a registry with the image under every name.
func (p *bigPicture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/manifests/") {
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.manifest))
		return
	}
	_, hex, _ := strings.Cut(r.URL.Path, "sha256:")
	f, err := os.Open(filepath.Join(p.dir, filepath.Base(hex)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	http.ServeContent(w, r, "", time.Time{}, f)
}

// archive writes the image as an OCI layout in a tar.
func (p *bigPicture) archive(t *testing.T) string {
	t.Helper()
	name := filepath.Join(p.dir, "archive.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	put := func(name string, body io.Reader, size int64) {
		t.Helper()
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, body); err != nil {
			t.Fatal(err)
		}
	}
	manifest := fmt.Sprintf("%x", sha256.Sum256(p.manifest))
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,"annotations":{"io.containerd.image.name":"docker.io/library/loaded:x"}}]}`,
		manifest, len(p.manifest))
	put("oci-layout", strings.NewReader(`{"imageLayoutVersion":"1.0.0"}`), 30)
	put("index.json", strings.NewReader(index), int64(len(index)))
	put("blobs/sha256/"+manifest, bytes.NewReader(p.manifest), int64(len(p.manifest)))
	for _, b := range append([]string{p.config}, p.blobs...) {
		body, err := os.Open(filepath.Join(p.dir, b))
		if err != nil {
			t.Fatal(err)
		}
		st, err := body.Stat()
		if err != nil {
			t.Fatal(err)
		}
		put("blobs/sha256/"+b, body, st.Size())
		if err := body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// byHand fetches and unpacks all layers at the same time, with curl, gzip and
// tar: what the machine can do.
func (p *bigPicture) byHand(t *testing.T, url, dir string) error {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(p.blobs))
	for i, b := range p.blobs {
		to := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		wg.Go(func() {
			script := fmt.Sprintf("curl -sf %s/v2/a/blobs/sha256:%s | gzip -dc | tar -xC %s", url, b, to)
			if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("%w: %s", err, out)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// peak returns the largest resident memory of a process since the last call, in
// megabytes. Source: proc_pid_clear_refs(5), proc_pid_status(5).
func peak(t *testing.T, pid int) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb / 1024
		}
	}
	t.Fatal("no VmHWM in status")
	return 0
}

// TestDistribution compares pull and load with what the machine can do by hand, in one
// run: the disk and the processors are the same, and as busy.
func TestDistribution(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	for _, program := range []string{"curl", "gzip", "tar"} {
		need.Program(t, program, "coreutils and curl")
	}
	p := paint(t)
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	name := strings.TrimPrefix(s.URL, "http://") + "/a:x"
	archive := p.archive(t)
	e := harness.Start(t)
	c := connect(t, e)
	ctx := t.Context()
	timed := func(f func() error) time.Duration {
		t.Helper()
		begin := time.Now()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	pull := func() error {
		res, err := c.ImagePull(ctx, name, client.ImagePullOptions{})
		if err != nil {
			return err
		}
		return res.Wait(ctx)
	}
	load := func() error {
		f, err := os.Open(archive)
		if err != nil {
			return err
		}
		defer f.Close()
		res, err := c.ImageLoad(ctx, f, client.ImageLoadWithQuiet(true))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res)
		return errors.Join(err, res.Close())
	}
	remove := func(name string) {
		t.Helper()
		if _, err := c.ImageRemove(ctx, name, client.ImageRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var hand, pulls, loads, again times
	var most float64
	peak(t, e.Pid())
	resident := func() { // no helper has a part in it but the supervisor, which does nothing
		t.Helper()
		most = max(most, peak(t, e.Pid()))
	}
	for i := range 4 {
		dir := t.TempDir()
		h := timed(func() error { return p.byHand(t, s.URL, dir) })
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		g := timed(pull)
		r := timed(pull)
		resident()
		remove(name)
		l := timed(load)
		resident()
		remove("loaded:x")
		if i > 0 { // the first time warms up
			hand, pulls, loads, again = append(hand, h), append(pulls, g), append(loads, l), append(again, r)
		}
	}
	note(t, fmt.Sprintf("curl | gzip | tar of %d MB in %d layers, %d files", p.size>>20, pictureLayers, p.files), hand.median(), "ms")
	note(t, "pull of it", pulls.median(), "ms")
	note(t, "load of it", loads.median(), "ms")
	limit(t, "pull beside curl, gzip and tar", pulls.median()/hand.median(), 1.15, "×")
	limit(t, "load beside curl, gzip and tar", loads.median()/hand.median(), 1.15, "×")
	limit(t, "laded's memory meanwhile, at most", most, 150, "MB")
	limit(t, "pull of an image that is here", again.median(), 50, "ms")
}
