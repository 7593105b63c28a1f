package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lade/internal/linux/xattr"
	"lade/internal/need"
)

// generated is a layer like those of distributions: n files, most of them of a
// few kilobytes, in directories of twenty.
func generated(t testing.TB, n int, mean int) ([]byte, int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	var files []file
	body := make([]byte, 64*mean)
	for i := range body {
		body[i] = byte(rnd.Uint32())
	}
	for i := range n {
		if i%20 == 0 {
			files = append(files, dir(fmt.Sprintf("usr/share/d%d", i/20), 0o755))
		}
		size := int(rnd.ExpFloat64() * float64(mean))
		files = append(files, reg(fmt.Sprintf("usr/share/d%d/file-%d", i/20, i), string(body[:min(size, len(body))])))
		if i%50 == 0 {
			files = append(files, symlink(fmt.Sprintf("usr/share/d%d/link-%d", i/20, i), "file"))
		}
	}
	return tarOf(t, files...), len(files)
}

// target makes a directory that does not share a block group with those of
// earlier rounds: ext4 searches past inodes that were deleted of late. Nothing
// is deleted before the end for the same reason.
func target(b *testing.B, top string) string {
	b.Helper()
	if err := xattr.SetTopDir(top); err != nil && !xattr.Unsupported(err) {
		b.Fatal(err)
	}
	d, err := os.MkdirTemp(top, "")
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkApply unpacks about 100 MB; compare with BenchmarkTar.
func BenchmarkApply(b *testing.B) {
	need.Root(b)
	stream, files := generated(b, 7500, 13000)
	b.SetBytes(int64(len(stream)))
	top := b.TempDir()
	for b.Loop() {
		d := target(b, top)
		apply(b, d, stream, ApplyOptions{})
	}
	b.ReportMetric(float64(files*b.N)/b.Elapsed().Seconds(), "files/s")
}

// BenchmarkApplyBig unpacks four files of 25 MB.
func BenchmarkApplyBig(b *testing.B) {
	need.Root(b)
	var files []file
	for i := range 4 {
		files = append(files, file{tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Mode: 0o755}, strings.Repeat("0123456789abcdef", 25<<16)})
	}
	stream := tarOf(b, files...)
	b.SetBytes(int64(len(stream)))
	top := b.TempDir()
	for b.Loop() {
		d := target(b, top)
		apply(b, d, stream, ApplyOptions{})
	}
}

// BenchmarkTar is GNU tar with the same stream as BenchmarkApply.
func BenchmarkTar(b *testing.B) {
	need.Root(b)
	prog := need.Program(b, "tar", "tar")
	stream, files := generated(b, 7500, 13000)
	b.SetBytes(int64(len(stream)))
	top := b.TempDir()
	for b.Loop() {
		d := target(b, top)
		cmd := exec.CommandContext(b.Context(), prog, "-x", "-f", "-", "-C", d)
		cmd.Stdin = bytes.NewReader(stream)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	b.ReportMetric(float64(files*b.N)/b.Elapsed().Seconds(), "files/s")
}
