package layer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"lade/internal/errdefs"
)

// bzipped is "hello\n" by bzip2.
const bzipped = "425a6839314159265359c1c080e2000001410000100244a00030cd00c3462997177245385090c1c080e2"

func compressed(t testing.TB, c Compression, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch c {
	case Gzip:
		w = gzip.NewWriter(&b)
	case Zstd:
		var err error
		if w, err = zstd.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	default:
		return plain
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func random(n int) []byte {
	r := rand.NewChaCha8([32]byte{})
	b := make([]byte, n)
	r.Read(b)
	return b
}

func TestDecompress(t *testing.T) {
	for _, size := range []int{0, 1, 5000, chunkSize, 3*readAhead*chunkSize + 17} {
		plain := random(size)
		for _, c := range []Compression{Uncompressed, Gzip, Zstd} {
			r, got, err := Decompress(iotest.HalfReader(bytes.NewReader(compressed(t, c, plain))))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil || got != c || !bytes.Equal(b, plain) {
				t.Errorf("%q, %d bytes: got %d bytes of %q, %v", c, size, len(b), got, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	// Streams may be put together of several.
	two := append(compressed(t, Gzip, []byte("a")), compressed(t, Gzip, []byte("b"))...)
	r, _, err := Decompress(bytes.NewReader(two))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "ab" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDecompressBzip2(t *testing.T) {
	b, err := hex.DecodeString(bzipped)
	if err != nil {
		t.Fatal(err)
	}
	r, c, err := Decompress(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || c != Bzip2 || string(b) != "hello\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDecompressDamaged(t *testing.T) {
	plain := random(100000)
	for _, c := range []Compression{Gzip, Zstd} {
		good := compressed(t, c, plain)
		flipped := bytes.Clone(good)
		flipped[len(flipped)/2] ^= 0xff
		for name, b := range map[string][]byte{"truncated": good[:len(good)/2], "flipped": flipped, "head only": good[:5]} {
			if c == Zstd && name == "flipped" {
				b = bytes.Clone(good)
				b[len(b)-1] ^= 0xff // the checksum: a stored block has none of its own
			}
			r, _, err := Decompress(bytes.NewReader(b))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if errdefs.KindOf(err) != errdefs.DataLoss {
				t.Errorf("%s, %s: %v", c, name, err)
			}
		}
		broken := errors.New("connection reset")
		r, _, err := Decompress(io.MultiReader(bytes.NewReader(good[:len(good)/2]), failing{broken}))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v, want the error of the source", c, err)
		}
	}
	if _, _, err := Decompress(strings.NewReader("\xfd7zXZ\x00 and more")); errdefs.KindOf(err) != errdefs.NotImplemented || !strings.Contains(err.Error(), "xz") {
		t.Errorf("xz: %v", err)
	}
}

// TestDecompressClose ends a stream that nobody read to its end.
func TestDecompressClose(t *testing.T) {
	r, _, err := Decompress(bytes.NewReader(compressed(t, Gzip, random(8*readAhead*chunkSize))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 10)); err == nil {
		t.Error("a closed stream can be read")
	}
	for range r.(*ahead).full { // ends when the goroutine has ended
	}
}

// FuzzDecompress looks for panics and for streams that never end.
func FuzzDecompress(f *testing.F) {
	for _, c := range []Compression{Uncompressed, Gzip, Zstd} {
		f.Add(compressed(f, c, []byte("hello")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := Decompress(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer r.Close()
		io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	})
}
