package reference

import (
	"strings"
	"testing"

	upstream "github.com/distribution/reference"

	"lade/internal/errdefs"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	for in, want := range map[string]struct{ full, familiar string }{
		"busybox":                       {"docker.io/library/busybox", "busybox"},
		"busybox:1.2":                   {"docker.io/library/busybox:1.2", "busybox:1.2"},
		"lade/hello":                    {"docker.io/lade/hello", "lade/hello"},
		"docker.io/busybox":             {"docker.io/library/busybox", "busybox"},
		"index.docker.io/library/x":     {"docker.io/library/x", "x"},
		"localhost/x":                   {"localhost/x", "localhost/x"},
		"localhost:5000/x:y":            {"localhost:5000/x:y", "localhost:5000/x:y"},
		"[::1]:5000/a/b@" + someDigest:  {"[::1]:5000/a/b@" + someDigest, "[::1]:5000/a/b@" + someDigest},
		"ghcr.io/a/b:t@" + someDigest:   {"ghcr.io/a/b:t@" + someDigest, "ghcr.io/a/b:t@" + someDigest},
		"docker.io/library/a/b":         {"docker.io/library/a/b", "library/a/b"},
		"Registry/x":                    {"Registry/x", "Registry/x"},
		"x/a__b-c---d.e/f_g":            {"docker.io/x/a__b-c---d.e/f_g", "x/a__b-c---d.e/f_g"},
		"x:" + strings.Repeat("t", 128): {"docker.io/library/x:" + strings.Repeat("t", 128), "x:" + strings.Repeat("t", 128)},
	} {
		r, err := Parse(in)
		if err != nil || r.String() != want.full || r.Familiar() != want.familiar {
			t.Errorf("Parse(%q) = %q, %q, %v; want %q, %q", in, r, r.Familiar(), err, want.full, want.familiar)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "invalid reference format",
		"Foo":                             "invalid reference format: repository name (library/Foo) must be lowercase",
		"a/Foo:x":                         "invalid reference format: repository name (a/Foo) must be lowercase",
		"x:":                              "invalid reference format",
		"x::y":                            "invalid reference format",
		"-x":                              "invalid reference format",
		"x@sha256:abc":                    "invalid reference format",
		"a b":                             "invalid reference format",
		"http://x/y":                      "invalid reference format",
		"../etc":                          "invalid reference format",
		"x:" + strings.Repeat("t", 129):   "invalid reference format",
		strings.Repeat("a", 64):           "invalid repository name (" + strings.Repeat("a", 64) + "), cannot specify 64-byte hexadecimal strings",
		"h.x/" + strings.Repeat("b", 256): "repository name must not be more than 255 characters",
	} {
		if _, err := Parse(in); err == nil || err.Error() != want || errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("Parse(%q): %v, want %q", in, err, want)
		}
	}
}

func TestWith(t *testing.T) {
	r, err := ParseTagged("busybox")
	if err != nil || r.Familiar() != "busybox:latest" {
		t.Fatalf("ParseTagged: %v, %v", r, err)
	}
	if r, err := r.WithTag("two"); err != nil || r.Familiar() != "busybox:two" {
		t.Errorf("WithTag: %v, %v", r, err)
	}
	if _, err := r.WithTag("a b"); err == nil {
		t.Error("a bad tag passed")
	}
	if got := r.WithDigest(someDigest).String(); got != "docker.io/library/busybox@"+someDigest {
		t.Errorf("WithDigest: %s", got)
	}
}

// FuzzParse compares with the reference implementation.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"busybox", "a/b:c", "localhost:5000/x@" + someDigest, "[::1]/x", "x_y__z-1", "a..b", "A/b", "x:y@z", "a-/b.c/d",
		"h-.x/y", "h.x:1a/y", "docker.io//x", "a.b", "ü/x", "x@sha512:" + strings.Repeat("a", 128), "x@md5:" + strings.Repeat("a", 32),
		"x@sha256:" + strings.Repeat("A", 64), "x:y:z", "X", "x/", "/x", "a.b/X:T", "x:\xff", "İ/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		want, werr := upstream.ParseNormalizedNamed(s)
		if errdefs.KindOf(err) == errdefs.NotImplemented && err != nil {
			return // another digest algorithm
		}
		if (err == nil) != (werr == nil) {
			t.Fatalf("Parse(%q) = %v, %v; upstream %v, %v", s, got, err, want, werr)
		}
		if err != nil {
			return
		}
		if got.String() != want.String() || got.Familiar() != upstream.FamiliarString(want) ||
			got.Domain != upstream.Domain(want) || got.Path != upstream.Path(want) {
			t.Fatalf("Parse(%q) = %q (%q), upstream %q (%q)", s, got, got.Familiar(), want, upstream.FamiliarString(want))
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Fatalf("%q does not read back: %v, %v", got, again, err)
		}
	})
}
