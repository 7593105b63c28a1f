package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// program makes a stream of a script, so that the fuzzer works on names and
// their order rather than on headers: one entry a line, "<type><name>[>target]".
func program(script string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for line := range strings.SplitSeq(script, "\n") {
		if line == "" {
			continue
		}
		name, target, _ := strings.Cut(line[1:], ">")
		h := &tar.Header{Name: name, Linkname: target, Mode: 0o755, ModTime: at, Format: tar.FormatPAX}
		switch line[0] {
		case 'd':
			h.Typeflag = tar.TypeDir
		case 'l':
			h.Typeflag = tar.TypeSymlink
		case 'h':
			h.Typeflag = tar.TypeLink
		case 'p':
			h.Typeflag = tar.TypeFifo
		default:
			h.Typeflag, h.Size, h.Linkname = tar.TypeReg, int64(len(target)), ""
		}
		if w.WriteHeader(h) != nil {
			continue
		}
		if h.Size > 0 {
			w.Write([]byte(target))
		}
	}
	w.Close()
	return b.Bytes()
}

// escaped reports what lies beside the target afterwards that was not there.
func guarded(t *testing.T, f func(target string)) {
	t.Helper()
	outer, err := os.MkdirTemp("", "ladefuzz")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outer)
	target := filepath.Join(outer, "a", "b", "target")
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(outer, "a", "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	f(target)
	if err := os.RemoveAll(target); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, outer); got != "a drwxr-xr-x\na/b drwxr-xr-x\na/secret -rw------- \"s\"" {
		t.Errorf("outside of the target:\n%s", got)
	}
}

// FuzzApply unpacks scripts: nothing may escape, every failure has a kind, and
// what was unpacked survives packing and unpacking again.
func FuzzApply(f *testing.F) {
	need.Root(f)
	for _, s := range []string{
		"da\nfa/b>x\nha/c>a/b\nla/d>../..\nfa/d/secret>y", "l..>x\nf../secret>x", "lx>/\nfx/secret>y\nhx/y>x/../secret",
		"fa/.wh.b\nfa/.wh..wh..opq\nda/b\nf.wh.a", "fa\nda\nfa\nla>b\nfa/x", "da/b/c\nfa\nda/b/c", "la>b\nlb>a\nfa/x", "pa\nfa/b", "f.wh...\nf.wh..",
		"da\nla/up>..\nfa/up/up/up/x>1\nha/up/q>a/up/up/secret", "f.wh.0/00\nf.wh..wh.x/y", "f" + strings.Repeat("x/", 300) + "y",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 1<<14 {
			return
		}
		stream := program(script)
		for _, mode := range []Whiteouts{Overlay, Delete} {
			guarded(t, func(target string) {
				_, err := Apply(t.Context(), target, bytes.NewReader(stream), ApplyOptions{Whiteouts: mode, Lower: over("/usr/share/zoneinfo")})
				if err != nil && errdefs.KindOf(err) == errdefs.Internal {
					t.Errorf("%q: %v", script, err)
				}
				if err != nil || mode != Overlay {
					return
				}
				roundTrip(t, target)
			})
		}
		guarded(t, func(target string) {
			root, err := os.Open(target)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := Unpack(t.Context(), root, "/", bytes.NewReader(stream), UnpackOptions{}); err != nil && errdefs.KindOf(err) == errdefs.Internal {
				t.Errorf("%q: unpack: %v", script, err)
			}
		})
	})
}

// roundTrip packs a directory and unpacks that elsewhere.
func roundTrip(t *testing.T, dir string) {
	t.Helper()
	var b bytes.Buffer
	if err := Diff(t.Context(), DiffOptions{Upper: dir}, &b); err != nil {
		t.Fatal(err)
	}
	again, err := os.MkdirTemp("", "ladefuzz")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(again)
	if err := os.Chmod(again, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(t.Context(), again, &b, ApplyOptions{}); err != nil {
		t.Errorf("unpack again: %v", err)
		return
	}
	if one, two := tree(t, dir), tree(t, again); one != two {
		t.Errorf("unpacked:\n%s\n\nagain:\n%s", one, two)
	}
}

// FuzzTar unpacks streams as they come.
func FuzzTar(f *testing.F) {
	need.Root(f)
	f.Add(everything(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stream []byte) {
		guarded(t, func(target string) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := Apply(ctx, target, bytes.NewReader(stream), ApplyOptions{})
			// Owners and attributes may be what no file system stores.
			if err != nil && errdefs.KindOf(err) == errdefs.Internal && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ERANGE) && !errors.Is(err, unix.E2BIG) ||
				errdefs.KindOf(err) == errdefs.Deadline {
				t.Errorf("%v", err)
			}
		})
	})
}
