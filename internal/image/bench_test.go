package image_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"lade/internal/image"
	"lade/internal/image/archive"
	"lade/internal/image/imagetest"
)

// BenchmarkLoad loads an image of four layers of 8 MiB in 1,000 files each;
// MB/s are of unpacked files.
func BenchmarkLoad(b *testing.B) {
	r := rand.NewChaCha8([32]byte{})
	var spec imagetest.Spec
	for l := range 4 {
		var files []imagetest.File
		for i := range 1000 {
			half := make([]byte, 4<<10)
			if _, err := r.Read(half); err != nil {
				b.Fatal(err)
			}
			files = append(files, imagetest.File{Name: fmt.Sprintf("layer%d-%d", l, i), Body: string(append(half, half...))})
		}
		spec.Layers = append(spec.Layers, imagetest.Tar(b, files...))
	}
	spec.Names = []string{"bench"}
	for name, compress := range map[string]func(testing.TB, []byte) []byte{"plain": nil, "gzip": imagetest.Gzip, "zstd": imagetest.Zstd} {
		b.Run(name, func(b *testing.B) {
			spec.Compress = compress
			a := imagetest.OCIArchive(b, imagetest.Build(b, spec))
			s := imagetest.New(b)
			b.SetBytes(4 * 1000 * 8 << 10)
			for b.Loop() {
				if err := archive.Load(b.Context(), s, bytes.NewReader(a), archive.LoadOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if _, err := s.Remove(b.Context(), "bench", image.RemoveOptions{}, nobody); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkResolve is what every container create does.
func BenchmarkResolve(b *testing.B) {
	s := imagetest.New(b)
	imagetest.Add(b, s, build(b, "1"), refs(b, "one")...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Resolve("one"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a store of 2,000 images with 8 layers each, and collects:
// what the daemon does before it answers.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, end := imagetest.Open(b, dir)
	var layers [][]byte
	for i := range 8 {
		layers = append(layers, imagetest.Tar(b, imagetest.File{Name: fmt.Sprint(i), Body: "x"}))
	}
	imagetest.Add(b, s, imagetest.Build(b, imagetest.Spec{Layers: layers}), refs(b, "one")...)
	end()
	imagetest.Multiply(b, dir, 2000)
	b.ReportAllocs()
	for b.Loop() {
		s, end := imagetest.Open(b, dir)
		if _, err := s.Collect(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if len(s.List()) < 2000 {
			b.Fatal(len(s.List()))
		}
		end()
		b.StartTimer()
	}
}
