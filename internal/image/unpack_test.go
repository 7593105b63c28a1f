package image_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/snapshot"
	"lade/internal/snapshot/overlay2"
	"lade/internal/snapshot/vfs"
)

// waiting is a driver that does not rebase: its layers wait for one another.
type waiting struct{ *overlay2.Driver }

func (waiting) Rebases() bool { return false }

// drivers are those that images are unpacked on.
var drivers = map[string]func(dir string, log *slog.Logger) (snapshot.Snapshotter, error){
	"overlay2": func(dir string, log *slog.Logger) (snapshot.Snapshotter, error) { return overlay2.New(dir, log) },
	"waiting": func(dir string, log *slog.Logger) (snapshot.Snapshotter, error) {
		d, err := overlay2.New(dir, log)
		return waiting{d}, err
	},
	"vfs": func(dir string, log *slog.Logger) (snapshot.Snapshotter, error) { return vfs.New(dir, log) },
}

func openOn(t testing.TB, driver string) *image.Images {
	t.Helper()
	dir := t.TempDir()
	s, end := imagetest.OpenOn(t, dir, func(log *slog.Logger) (snapshot.Snapshotter, error) {
		return drivers[driver](filepath.Join(dir, driver), log)
	})
	t.Cleanup(end)
	return s
}

// listing is what the directory of a snapshot holds.
func listing(t *testing.T, s *image.Images, key string) string {
	t.Helper()
	dir, err := s.Snapshotter().Dir(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		rel, err := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %v %d:%d\n", rel, fi.Mode(), st.Uid, st.Gid)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// leaning is an image whose upper layers use what the lower ones say: links,
// modes, and the top directory.
func leaning(t testing.TB) *imagetest.Built {
	return imagetest.Build(t, imagetest.Spec{Layers: [][]byte{
		imagetest.Tar(t, imagetest.File{Name: "./", Mode: 0o751}, imagetest.File{Name: "usr/lib/", Mode: 0o711},
			imagetest.File{Name: "lib", Type: '2', Link: "usr/lib"}, imagetest.File{Name: "old/file", Body: "1"}),
		imagetest.Tar(t, imagetest.File{Name: "lib/x.so", Body: "2"}, imagetest.File{Name: "old/.wh.file"}),
		imagetest.Tar(t, imagetest.File{Name: "./", Mode: 0o755}, imagetest.File{Name: "lib/y.so", Body: "3"}),
		imagetest.Tar(t, imagetest.File{Name: "new/f", Body: "4"}),
	}})
}

// TestUnpack checks that layers come out the same whether they wait for one
// another or not.
func TestUnpack(t *testing.T) {
	b := leaning(t)
	got := map[string][]string{}
	for name := range drivers {
		s := openOn(t, name)
		lease := s.Lease()
		layers := imagetest.Store(t, s, lease, b)
		var done []int
		if err := s.Unpack(t.Context(), lease, layers, image.UnpackOptions{Done: func(i int, _ bool) { done = append(done, i) }}); err != nil {
			t.Fatal(name, err)
		}
		if !slices.Equal(done, []int{0, 1, 2, 3}) {
			t.Errorf("%s: done in the order %v", name, done)
		}
		parent := ""
		for i, c := range digest.Chain(image.DiffIDs(layers)) {
			key := image.SnapshotKey(c)
			info, err := s.Snapshotter().Stat(t.Context(), key)
			if err != nil || info.Parent != parent || layers[i].Size != 1 {
				t.Errorf("%s: layer %d: %+v, %d bytes, %v", name, i, info, layers[i].Size, err)
			}
			parent = key
			got[name] = append(got[name], listing(t, s, key))
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		imagetest.Empty(t, s)
	}
	if !slices.Equal(got["overlay2"], got["waiting"]) {
		t.Errorf("not the same:\n%v\n%v", got["overlay2"], got["waiting"])
	}
	want := ". drwxr-xr-x 0:0\nnew drwxr-xr-x 0:0\nnew/f -rwxr-xr-x 0:0\n"
	if top := got["overlay2"][3]; top != want {
		t.Errorf("top layer: %q", top)
	}
	want = ". drwxr-x--x 0:0\nold drwxr-xr-x 0:0\nold/file Dcrw------- 0:0\nusr drwxr-xr-x 0:0\nusr/lib drwx--x--x 0:0\nusr/lib/x.so -rwxr-xr-x 0:0\n"
	if second := got["overlay2"][1]; strings.ReplaceAll(second, "Dc---------", "Dcrw-------") != want {
		t.Errorf("second layer: %q", second)
	}
	if whole := got["vfs"][3]; !strings.Contains(whole, "usr/lib/x.so") || strings.Contains(whole, "old/file") {
		t.Errorf("whole tree: %q", whole)
	}
}

// TestUnpackTogether checks that a layer is unpacked while the one below is:
// the bottom layer stands still until the top one is through.
func TestUnpackTogether(t *testing.T) {
	s := openOn(t, "overlay2")
	b := imagetest.Build(t, imagetest.Spec{Layers: [][]byte{
		imagetest.Tar(t, imagetest.File{Name: "a", Body: "1"}),
		imagetest.Tar(t, imagetest.File{Name: "d/"}, imagetest.File{Name: "d/b", Body: "2"}),
	}})
	lease := s.Lease()
	layers := imagetest.Store(t, s, lease, b)
	top := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.Unpack(ctx, lease, layers, image.UnpackOptions{Progress: func(i int, done int64) {
		switch {
		case i == 0:
			select {
			case <-top:
			case <-ctx.Done():
			}
		case done == layers[1].Blob.Size:
			select {
			case <-top:
			default:
				close(top)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnpackFails checks that of a broken layer and those above nothing
// remains, and that the layers below do.
func TestUnpackFails(t *testing.T) {
	for name := range drivers {
		s := openOn(t, name)
		b := leaning(t)
		lease := s.Lease()
		layers := imagetest.Store(t, s, lease, b)
		layers[2].DiffID = layers[3].DiffID
		err := s.Unpack(t.Context(), lease, layers, image.UnpackOptions{})
		if errdefs.KindOf(err) != errdefs.DataLoss || !strings.Contains(err.Error(), "wrong diff id") {
			t.Errorf("%s: %v", name, err)
		}
		chains := digest.Chain(image.DiffIDs(layers))
		for info := range s.Snapshotter().Walk(t.Context()) {
			if i := slices.IndexFunc(chains, func(c digest.ChainID) bool { return image.SnapshotKey(c) == info.Key }); i < 0 || i > 1 {
				t.Errorf("%s: left behind: %+v", name, info)
			}
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		imagetest.Empty(t, s)
	}
}

// TestUnpackNotReady checks that a blob which does not come ends everything.
func TestUnpackNotReady(t *testing.T) {
	s := openOn(t, "overlay2")
	lease := s.Lease()
	layers := imagetest.Store(t, s, lease, leaning(t))
	lost := errors.New("the registry is gone")
	err := s.Unpack(t.Context(), lease, layers, image.UnpackOptions{Ready: func(_ context.Context, i int) error {
		if i == 2 {
			return lost
		}
		return nil
	}})
	if !errors.Is(err, lost) {
		t.Error(err)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Error(err)
	}
	imagetest.Empty(t, s)
}

// TestUnpackMany unpacks images that share layers at the same time: more layers
// than there are slots, whose streams all need what is below.
func TestUnpackMany(t *testing.T) {
	s := openOn(t, "overlay2")
	var shared [][]byte
	for i := range 12 {
		shared = append(shared, imagetest.Tar(t, imagetest.File{Name: fmt.Sprintf("dir%d/f", i), Body: "1"}, imagetest.File{Name: fmt.Sprintf("dir%d/g", max(i-1, 0))}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	var existed atomic.Int32
	for i := range 12 {
		b := imagetest.Build(t, imagetest.Spec{Layers: append(slices.Clone(shared[:12-i/4]), imagetest.Tar(t, imagetest.File{Name: fmt.Sprintf("own%d", i)}))})
		lease := s.Lease()
		layers := imagetest.Store(t, s, lease, b)
		wg.Go(func() {
			err := s.Unpack(ctx, lease, layers, image.UnpackOptions{Done: func(_ int, there bool) {
				if there {
					existed.Add(1)
				}
			}})
			if err != nil {
				t.Error(err)
			}
		})
		defer lease.Release(t.Context())
	}
	wg.Wait()
	if _, n, _ := imagetest.Objects(t, s); n != 12+12 {
		t.Errorf("%d snapshots, want 24", n)
	}
	if n := existed.Load(); n != 12*12-12-12 {
		t.Errorf("%d layers were there already", n)
	}
}

// BenchmarkUnpack unpacks an image of six layers of 4 MiB in 500 files each,
// gzip, all at the same time and one after the other; MB/s are of unpacked
// files.
func BenchmarkUnpack(b *testing.B) {
	r := rand.NewChaCha8([32]byte{})
	spec := imagetest.Spec{Compress: imagetest.Gzip}
	for l := range 6 {
		files := []imagetest.File{{Name: "d/"}}
		for i := range 500 {
			half := make([]byte, 4<<10)
			if _, err := r.Read(half); err != nil {
				b.Fatal(err)
			}
			files = append(files, imagetest.File{Name: fmt.Sprintf("d/layer%d-%d", l, i), Body: string(append(half, half...))})
		}
		spec.Layers = append(spec.Layers, imagetest.Tar(b, files...))
	}
	built := imagetest.Build(b, spec)
	for _, driver := range []string{"overlay2", "waiting"} {
		b.Run(driver, func(b *testing.B) {
			s := openOn(b, driver)
			b.SetBytes(6 * 500 * 8 << 10)
			for b.Loop() {
				b.StopTimer()
				lease := s.Lease()
				layers := imagetest.Store(b, s, lease, built)
				b.StartTimer()
				if err := s.Unpack(b.Context(), lease, layers, image.UnpackOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := lease.Release(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
