package builtin

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/reference"
)

func provider(t *testing.T, s *image.Images, layer []byte) *Builtin {
	t.Helper()
	return &Builtin{images: s, layer: layer}
}

func packed(t *testing.T, text string) []byte {
	t.Helper()
	return imagetest.Zstd(t, imagetest.Tar(t, imagetest.File{Name: "bin/"}, imagetest.File{Name: "bin/sh", Body: text}))
}

func TestEnsure(t *testing.T) {
	s := imagetest.New(t)
	ref, err := reference.Parse(Name)
	if err != nil {
		t.Fatal(err)
	}
	one := provider(t, s, packed(t, "one"))
	for range 2 {
		if err := one.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	img, err := s.Lookup(ref)
	if err != nil || img.Config.Config.Cmd[0] != "hello" {
		t.Fatalf("%+v, %v", img, err)
	}
	// The same build gives the same image on another machine.
	other := imagetest.New(t)
	if err := provider(t, other, packed(t, "one")).Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := other.Lookup(ref); err != nil || got.ID != img.ID || got.Manifest.Digest != img.Manifest.Digest {
		t.Errorf("not reproducible: %v, %v", got, err)
	}
	// A newer build replaces it.
	if err := provider(t, s, packed(t, "two")).Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	newer, err := s.Lookup(ref)
	if err != nil || newer.ID == img.ID {
		t.Fatalf("the image of the older build stayed: %v", err)
	}
	// Both can go, and nothing stays.
	if _, _, err := s.Prune(t.Context(), false, nil, func(digest.Digest) []image.User { return nil }); err != nil {
		t.Fatal(err)
	}
	imagetest.Empty(t, s)
}

func TestEnsureLeavesOthersAlone(t *testing.T) {
	s := imagetest.New(t)
	b := imagetest.Build(t, imagetest.Spec{Layers: [][]byte{imagetest.Tar(t, imagetest.File{Name: "a", Body: "a"})}})
	ref, err := reference.Parse(Name)
	if err != nil {
		t.Fatal(err)
	}
	own := imagetest.Add(t, s, b, ref)
	if err := provider(t, s, packed(t, "x")).Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup(ref); err != nil || got.ID != own.ID {
		t.Errorf("replaced: %v, %v", got, err)
	}
}

func TestEnsureWithoutAsset(t *testing.T) {
	err := (&Builtin{}).Ensure(context.Background())
	if errdefs.KindOf(err) != errdefs.NotFound || !strings.Contains(err.Error(), "carries no built-in image") {
		t.Errorf("%v", err)
	}
}

// TestUserland runs the packed user land in a chroot.
func TestUserland(t *testing.T) {
	s := imagetest.New(t)
	b, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	if b.layer == nil {
		t.Skip("the asset is not built: make")
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	img, err := s.Resolve(Name)
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.Snapshotter().Dir(t.Context(), img.Top())
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin string, args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=/bin"}
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			return out.String(), ee.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return out.String(), 0
	}
	for _, tc := range []struct {
		script, out string
		code        int
	}{
		{"echo hi", "hi\n", 0},
		{"exit 7", "", 7},
		{"false; echo $?", "1\n", 0},
		{"for i in 1 2 3; do echo $i; done | wc -l", "3 \n", 0},
		{"nosuch", "sh: nosuch: not found\n", 127},
		{"/etc/passwd", "sh: /etc/passwd: Permission denied\n", 126},
		{`trap "echo got; exit 3" TERM; kill -TERM $$; while :; do sleep 0.05; done`, "got\n", 3},
		{`trap "echo bye" EXIT; echo a`, "a\nbye\n", 0},
		{"exec echo replaced; echo no", "replaced\n", 0},
		{"echo abc | tr a-z A-Z | tee /dev/null | cut -c 2-", "BC\n", 0},
		{"printf '%s-%d\\n' x 5", "x-5\n", 0},
		{"test -d /etc && [ -x /bin/sh ] && /bin/test 1 -lt 2 && echo yes", "yes\n", 0},
		{"seq 3 | sort -rn | head -n 2", "3\n2\n", 0},
		{"printf 'b\\na\\nb\\n' | sort | uniq -c", "      1 a\n      2 b\n", 0},
		{"echo root:x | grep -o '^ro*'", "roo\n", 0},
		{"grep -c root /etc/passwd", "1\n", 0},
		{"grep nothere /etc/passwd", "", 1},
		{"id -u; whoami", "0\nroot\n", 0},
		{"A=1 env | grep A=", "A=1\n", 0},
		{"set -e; false; echo no", "", 1},
		{"sh -c 'exit 9'; echo $?", "9\n", 0},
		{"umask 022; umask", "0022\n", 0},
		{"basename /a/b.c .c; dirname /a/b", "b\n/a\n", 0},
		{"readlink /bin/sh", "userland\n", 0},
		{"stat -c '%a %F' /tmp", "1777 directory\n", 0},
		{"echo x | gzip | gunzip", "x\n", 0},
	} {
		if out, code := run("", "/bin/sh", "-c", tc.script); out != tc.out || code != tc.code {
			t.Errorf("sh -c %q: %q, %d; want %q, %d", tc.script, out, code, tc.out, tc.code)
		}
	}
	if out, code := run("echo from stdin\nexit 4\n", "/bin/sh"); out != "from stdin\n" || code != 4 {
		t.Errorf("a script on stdin: %q, %d", out, code)
	}
	if fi, err := os.Lstat(filepath.Join(root, "tmp")); err != nil || fi.Mode()&fs.ModeSticky == 0 {
		t.Errorf("/tmp: %v, %v", fi, err)
	}
}
