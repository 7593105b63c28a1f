package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/archive"
	"lade/internal/image/imagetest"
)

type file = imagetest.File

func twoLayers(t *testing.T, s imagetest.Spec) *imagetest.Built {
	t.Helper()
	s.Layers = [][]byte{
		imagetest.Tar(t, file{Name: "bin/"}, file{Name: "bin/sh", Body: "#!shell"}, file{Name: "etc/"}, file{Name: "etc/gone", Body: "x"}),
		imagetest.Tar(t, file{Name: "etc/"}, file{Name: "etc/.wh.gone"}, file{Name: "etc/new", Body: "new"},
			file{Name: "bin/ash", Type: tar.TypeSymlink, Link: "sh"}),
	}
	return imagetest.Build(t, s)
}

// load loads an archive and returns the lines that it reports.
func load(t *testing.T, s *image.Images, b []byte) (out []string, err error) {
	t.Helper()
	err = archive.Load(t.Context(), s, bytes.NewReader(b), archive.LoadOptions{Progress: func(m jsonstream.Message) {
		if m.Stream != "" {
			out = append(out, m.Stream)
		}
	}})
	return out, err
}

func TestLoad(t *testing.T) {
	plain := twoLayers(t, imagetest.Spec{Names: []string{"busybox:latest", "host:5000/a/b:c"}})
	zipped := twoLayers(t, imagetest.Spec{Names: []string{"busybox:latest", "host:5000/a/b:c"}, Compress: imagetest.Gzip, Docker: true})
	zst := twoLayers(t, imagetest.Spec{Names: []string{"busybox:latest", "host:5000/a/b:c"}, Compress: imagetest.Zstd})
	for name, archive := range map[string][]byte{
		"docker":           imagetest.DockerArchive(t, plain),
		"docker gzip":      imagetest.Gzip(t, imagetest.DockerArchive(t, plain)),
		"docker zstd":      imagetest.Zstd(t, imagetest.DockerArchive(t, zipped)),
		"docker zstd both": imagetest.Zstd(t, imagetest.DockerArchive(t, zst)),
		"oci":              imagetest.OCIArchive(t, zst),
		"oci docker types": imagetest.OCIArchive(t, zipped),
	} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.New(t)
			out, err := load(t, s, archive)
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"Loaded image: busybox:latest\n", "Loaded image: host:5000/a/b:c\n"}; !slices.Equal(out, want) {
				t.Errorf("reported %q, want %q", out, want)
			}
			img, err := s.Resolve("busybox")
			if err != nil {
				t.Fatal(err)
			}
			if img.ID != plain.ID {
				t.Errorf("id %s, want %s: the config must be kept byte for byte", img.ID, plain.ID)
			}
			dir, err := s.Snapshotter().Dir(t.Context(), img.Top())
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "etc/new")); string(b) != "new" || err != nil {
				t.Errorf("etc/new: %q, %v", b, err)
			}
			if fi, err := os.Lstat(filepath.Join(dir, "etc/gone")); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
				t.Errorf("no whiteout: %v, %v", fi, err)
			}
			if img.Layers[0].Size != 8 || img.Size != 11 {
				t.Errorf("sizes: %+v, %d", img.Layers, img.Size)
			}
			// config, manifest, two layers; two snapshots; nothing else
			if b, n, i := imagetest.Objects(t, s); b != 4 || n != 2 || i != 0 {
				t.Errorf("%d blobs, %d snapshots, %d ingests", b, n, i)
			}
			if _, err := s.Remove(t.Context(), "busybox", image.RemoveOptions{}, nobody); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Remove(t.Context(), string(img.ID), image.RemoveOptions{}, nobody); err != nil {
				t.Fatal(err)
			}
			imagetest.Empty(t, s)
		})
	}
}

func nobody(digest.Digest) []image.User { return nil }

func TestLoadLegacyLinks(t *testing.T) {
	b := twoLayers(t, imagetest.Spec{})
	one, two := b.Layers[0].Digest.Encoded(), b.Layers[1].Digest.Encoded()
	body := func(i int) string { return string(b.Blobs[digest.Digest(b.Layers[i].Digest)]) }
	a := imagetest.Tar(t,
		file{Name: "aaa/layer.tar", Type: tar.TypeSymlink, Link: "../" + one + "/layer.tar"},
		file{Name: "./" + one + "/layer.tar", Body: body(0)},
		file{Name: two + "/layer.tar", Body: body(1)}, file{Name: two + "/VERSION", Body: "1.0"}, file{Name: two + "/json", Body: "{}"},
		file{Name: "sha256:config", Body: string(b.Config)},
		file{Name: "manifest.json", Body: `[{"Config":"sha256:config","RepoTags":null,"Layers":["aaa/layer.tar","` + two + `/layer.tar"]}]`},
	)
	s := imagetest.New(t)
	out, err := load(t, s, a)
	if want := []string{"Loaded image ID: " + string(b.ID) + "\n"}; err != nil || !slices.Equal(out, want) {
		t.Fatalf("%q, %v; want %q", out, err, want)
	}
}

func TestLoadSeveral(t *testing.T) {
	one := twoLayers(t, imagetest.Spec{Names: []string{"one"}, Labels: map[string]string{"n": "1"}})
	two := twoLayers(t, imagetest.Spec{Names: []string{"two"}, Labels: map[string]string{"n": "2"}})
	for name, a := range map[string][]byte{"docker": imagetest.DockerArchive(t, one, two), "oci": imagetest.OCIArchive(t, one, two)} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.New(t)
			if _, err := load(t, s, a); err != nil {
				t.Fatal(err)
			}
			if got := len(s.List()); got != 2 {
				t.Fatalf("%d images", got)
			}
			if _, err := s.Remove(t.Context(), "one", image.RemoveOptions{}, nobody); err != nil {
				t.Fatal(err)
			}
			// The layers are shared: they stay for the other.
			if b, n, _ := imagetest.Objects(t, s); b != 4 || n != 2 {
				t.Errorf("%d blobs, %d snapshots", b, n)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	b := twoLayers(t, imagetest.Spec{Names: []string{"x"}})
	good := imagetest.DockerArchive(t, b)
	oci := imagetest.OCIArchive(t, b)
	zipped := imagetest.Gzip(t, good)
	manifest := func(s string) file { return file{Name: "manifest.json", Body: s} }
	flip := func(b []byte, at string) []byte {
		c := bytes.Clone(b)
		i := bytes.Index(c, []byte(at))
		c[i] ^= 1
		return c
	}
	for name, tc := range map[string]struct {
		archive []byte
		kind    errdefs.Kind
		text    string
	}{
		"empty":           {nil, errdefs.Invalid, "unrecognized image format"},
		"garbage":         {bytes.Repeat([]byte("garbage "), 200), errdefs.Invalid, "invalid archive"},
		"truncated":       {good[:len(good)/2], errdefs.Invalid, "unexpected EOF"},
		"truncated gzip":  {zipped[:300], errdefs.DataLoss, "damaged gzip stream"},
		"corrupt gzip":    {flip(zipped, string(zipped[len(zipped)-8:])), errdefs.DataLoss, "damaged gzip stream"},
		"traversal":       {imagetest.Tar(t, file{Name: "../evil", Body: "x"}), errdefs.Invalid, "outside"},
		"absolute":        {imagetest.Tar(t, file{Name: "/etc/evil", Body: "x"}), errdefs.Invalid, "outside"},
		"link out":        {imagetest.Tar(t, file{Name: "a/layer.tar", Type: tar.TypeSymlink, Link: "../../etc/shadow"}), errdefs.Invalid, "leads outside"},
		"absolute link":   {imagetest.Tar(t, file{Name: "a/layer.tar", Type: tar.TypeSymlink, Link: "/etc/shadow"}), errdefs.Invalid, "leads outside"},
		"device":          {imagetest.Tar(t, file{Name: "dev", Type: tar.TypeChar}), errdefs.Invalid, "of type"},
		"wrong layer":     {flip(good, "#!shell"), errdefs.DataLoss, "wrong diff id"},
		"wrong blob":      {flip(oci, "#!shell"), errdefs.DataLoss, "the received blob has digest"},
		"no json":         {imagetest.Tar(t, manifest("nope")), errdefs.Invalid, "manifest.json"},
		"no config":       {imagetest.Tar(t, manifest(`[{"Config":"x.json"}]`)), errdefs.Invalid, `"x.json" is missing`},
		"link to itself":  {imagetest.Tar(t, manifest(`[{"Config":"l"}]`), file{Name: "l", Type: tar.TypeSymlink, Link: "l"}), errdefs.Invalid, "missing"},
		"layers missing":  {imagetest.Tar(t, file{Name: "c.json", Body: string(b.Config)}, manifest(`[{"Config":"c.json","Layers":["a"]}]`)), errdefs.Invalid, "layers length mismatch: expected 2, got 1"},
		"bad tag":         {bytes.Replace(good, []byte(`"RepoTags":["x"]`), []byte(`"RepoTags":["X"]`), 1), errdefs.Invalid, "must be lowercase"},
		"blob not digest": {imagetest.Tar(t, file{Name: "blobs/sha256/zz", Body: "x"}), errdefs.Invalid, "invalid digest"},
	} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.New(t)
			_, err := load(t, s, tc.archive)
			if errdefs.KindOf(err) != tc.kind || err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v (%v), want %v with %q", err, errdefs.KindOf(err), tc.kind, tc.text)
			}
			imagetest.Empty(t, s)
		})
	}
}

func TestLoadEscapingLayer(t *testing.T) {
	outside := t.TempDir()
	b := imagetest.Build(t, imagetest.Spec{Names: []string{"evil"}, Layers: [][]byte{imagetest.Tar(t,
		file{Name: "link", Type: tar.TypeSymlink, Link: outside}, file{Name: "link/evil", Body: "x"})}})
	s := imagetest.New(t)
	_, err := load(t, s, imagetest.DockerArchive(t, b))
	if left, rerr := os.ReadDir(outside); len(left) != 0 || rerr != nil {
		t.Errorf("the layer wrote outside: %v, %v (load said %v)", left, rerr, err)
	}
}

func TestLoadCanceled(t *testing.T) {
	s := imagetest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	good := imagetest.DockerArchive(t, twoLayers(t, imagetest.Spec{Names: []string{"x"}}))
	go func() {
		_, err := pw.Write(good[:2048])
		cancel()
		pw.CloseWithError(errors.Join(err, context.Canceled))
	}()
	if err := archive.Load(ctx, s, pr, archive.LoadOptions{}); errdefs.KindOf(err) != errdefs.Canceled {
		t.Errorf("%v", err)
	}
	imagetest.Empty(t, s)
}

func TestSave(t *testing.T) {
	b := twoLayers(t, imagetest.Spec{Names: []string{"busybox:latest", "busybox:two"}, Compress: imagetest.Gzip, Docker: true})
	s := imagetest.New(t)
	if _, err := load(t, s, imagetest.OCIArchive(t, b)); err != nil {
		t.Fatal(err)
	}
	var all, again, one, byID bytes.Buffer
	for _, tc := range []struct {
		names []string
		w     io.Writer
	}{{[]string{"busybox"}, &all}, {[]string{"busybox"}, &again}, {[]string{"busybox:two", "busybox:two"}, &one}, {[]string{b.ID.Short()}, &byID}} {
		if err := archive.Save(t.Context(), s, tc.names, nil, tc.w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(all.Bytes(), again.Bytes()) {
		t.Error("saving twice gives different archives")
	}
	if b, n, _ := imagetest.Objects(t, s); b != 4 || n != 2 {
		t.Errorf("saving changed the store: %d blobs, %d snapshots", b, n)
	}
	for _, tc := range []struct {
		archive []byte
		want    []string
	}{
		{all.Bytes(), []string{"Loaded image: busybox:latest\n", "Loaded image: busybox:two\n"}},
		{one.Bytes(), []string{"Loaded image: busybox:two\n"}},
		{byID.Bytes(), []string{"Loaded image ID: " + string(b.ID) + "\n"}},
	} {
		to := imagetest.New(t)
		out, err := load(t, to, tc.archive)
		if err != nil || !slices.Equal(out, tc.want) {
			t.Errorf("%q, %v; want %q", out, err, tc.want)
			continue
		}
		if img := to.List()[0]; img.Manifest.Digest != b.Desc.Digest || img.ID != b.ID {
			t.Errorf("digests changed: manifest %s, id %s", img.Manifest.Digest, img.ID)
		}
	}
	// manifest.json alone describes the image too, for older engines.
	files := map[string][]byte{}
	tr := tar.NewReader(bytes.NewReader(all.Bytes()))
	for h, err := tr.Next(); err == nil; h, err = tr.Next() {
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
	var entries []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &entries); err != nil || len(entries) != 1 || len(entries[0].Layers) != 2 {
		t.Fatalf("manifest.json: %s, %v", files["manifest.json"], err)
	}
	if !bytes.Equal(files[entries[0].Config], b.Config) || files[entries[0].Layers[1]] == nil {
		t.Errorf("manifest.json points nowhere: %s", files["manifest.json"])
	}
	if err := archive.Save(t.Context(), s, []string{"nope"}, nil, io.Discard); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != "No such image: nope:latest" {
		t.Errorf("an unknown image: %v", err)
	}
	if err := archive.Save(t.Context(), s, []string{"busybox"}, []ocispec.Platform{{OS: "plan9", Architecture: "mips"}}, io.Discard); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("another platform: %v", err)
	}
}

func TestImport(t *testing.T) {
	root := imagetest.Tar(t, file{Name: "bin/"}, file{Name: "bin/sh", Body: "shell"})
	for name, source := range map[string][]byte{"plain": root, "gzip": imagetest.Gzip(t, root), "zstd": imagetest.Zstd(t, root)} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.New(t)
			img, err := archive.Import(t.Context(), s, bytes.NewReader(source), archive.ImportOptions{
				Reference: "made:1", Message: "msg", Changes: []string{`CMD ["/bin/sh"]`, "ENV A=1", "LABEL l=v", "EXPOSE 80/tcp"},
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Resolve("made:1")
			if err != nil || got.ID != img.ID {
				t.Fatalf("%v, %v", got, err)
			}
			c := got.Config
			if c.Config.Cmd[0] != "/bin/sh" || c.Config.Env[0] != "A=1" || c.History[0].Comment != "msg" || got.Size != 5 {
				t.Errorf("config %+v, size %d", c, got.Size)
			}
			if got.Layers[0].DiffID != digest.DiffID(digest.FromBytes(root)) {
				t.Error("wrong DiffID")
			}
		})
	}
	s := imagetest.New(t)
	for name, o := range map[string]archive.ImportOptions{
		"bad name":   {Reference: "X"},
		"bad change": {Changes: []string{"RUN x"}},
	} {
		if _, err := archive.Import(t.Context(), s, bytes.NewReader(root), o); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := archive.Import(t.Context(), s, strings.NewReader("no tar"), archive.ImportOptions{}); err == nil {
		t.Error("garbage was imported")
	}
	imagetest.Empty(t, s)
}

// TestSaveZstd checks that layers in zstd can be read by those who know only
// the docker-archive and no zstd, and that the digests stay.
func TestSaveZstd(t *testing.T) {
	b := twoLayers(t, imagetest.Spec{Names: []string{"busybox:latest"}, Compress: imagetest.Zstd})
	s := imagetest.New(t)
	if _, err := load(t, s, imagetest.OCIArchive(t, b)); err != nil {
		t.Fatal(err)
	}
	var saved, again bytes.Buffer
	for _, w := range []io.Writer{&saved, &again} {
		if err := archive.Save(t.Context(), s, []string{"busybox"}, nil, w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(saved.Bytes(), again.Bytes()) {
		t.Error("saving twice gives different archives")
	}
	files := map[string][]byte{}
	var old []file // what an engine reads that knows no OCI layout
	tr := tar.NewReader(bytes.NewReader(saved.Bytes()))
	for h, err := tr.Next(); err == nil; h, err = tr.Next() {
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name] != nil {
			t.Errorf("%s is there twice", h.Name)
		}
		files[h.Name] = body
		if h.Typeflag == tar.TypeReg && h.Name != "index.json" && h.Name != "oci-layout" {
			old = append(old, file{Name: h.Name, Body: string(body)})
		}
	}
	var entries []struct{ Layers []string }
	if err := json.Unmarshal(files["manifest.json"], &entries); err != nil || len(entries) != 1 || len(entries[0].Layers) != 2 {
		t.Fatalf("manifest.json: %s, %v", files["manifest.json"], err)
	}
	for i, name := range entries[0].Layers {
		if !bytes.Equal(files[name], b.Spec.Layers[i]) {
			t.Errorf("layer %d of manifest.json is not the plain tar", i)
		}
		if d := b.Layers[i].Digest; !bytes.Equal(files["blobs/sha256/"+d.Encoded()], b.Blobs[digest.Digest(d)]) {
			t.Errorf("layer %d is not there as it was stored", i)
		}
	}
	for what, archive := range map[string][]byte{"whole": saved.Bytes(), "docker-archive": imagetest.Tar(t, old...)} {
		to := imagetest.New(t)
		if _, err := load(t, to, archive); err != nil {
			t.Error(what, err)
			continue
		}
		img := to.List()[0]
		if img.ID != b.ID || what == "whole" && img.Manifest.Digest != b.Desc.Digest {
			t.Errorf("%s: digests changed: manifest %s, id %s", what, img.Manifest.Digest, img.ID)
		}
		if n, _, _ := imagetest.Objects(t, to); n != 4 {
			t.Errorf("%s: %d blobs, want manifest, configuration and two layers", what, n)
		}
	}
}
