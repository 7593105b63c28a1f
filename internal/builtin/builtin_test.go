package builtin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/need"
	"lade/internal/reference"
)

func provider(t *testing.T, s *image.Images, layer []byte) *Builtin {
	t.Helper()
	return &Builtin{images: s, read: func() ([]byte, error) {
		if layer == nil {
			return nil, fs.ErrNotExist
		}
		return layer, nil
	}}
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
	err := provider(t, imagetest.New(t), nil).Ensure(context.Background())
	if errdefs.KindOf(err) != errdefs.NotFound || !strings.Contains(err.Error(), "carries no built-in image") {
		t.Errorf("%v", err)
	}
}

// rootfs unpacks the image of this build and returns its directory.
func rootfs(t *testing.T) string {
	t.Helper()
	s := imagetest.New(t)
	err := New(s).Ensure(t.Context())
	if errors.Is(err, errdefs.NotFound) {
		t.Skip("the asset is not built: make")
	}
	if err != nil {
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
	return root
}

// TestInteractive types at the shell through a terminal.
func TestInteractive(t *testing.T) {
	root := rootfs(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Setsid: true, Setctty: true}
	cmd.Dir, cmd.Env = "/", []string{"PATH=/bin", "TERM=xterm"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	screen := make(chan string, 1000)
	go func() {
		defer close(screen)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			screen <- string(buf[:n])
		}
	}()
	var seen strings.Builder
	expect := func(want string) {
		t.Helper()
		timeout := time.After(need.Patience(30 * time.Second))
		for !strings.Contains(seen.String(), want) {
			select {
			case s, ok := <-screen:
				if !ok {
					t.Fatalf("the shell ended; %q is not in %q", want, seen.String())
				}
				seen.WriteString(s)
			case <-timeout:
				t.Fatalf("%q is not in %q", want, seen.String())
			}
		}
		_, rest, _ := strings.Cut(seen.String(), want)
		seen.Reset()
		seen.WriteString(rest)
	}
	enter := func(keys string) {
		t.Helper()
		if _, err := master.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	expect("/ # ")
	enter("echo sum=$((1+2))\r")
	expect("\nsum=3")
	expect("/ # ")
	enter("no\x7f\x7fecho edited\r") // with two backspaces
	expect("\nedited")
	expect("/ # ")
	enter("for i in 1 2; do\r")
	expect("> ")
	enter("echo line$i; done\r")
	expect("line2")
	expect("/ # ")
	enter("typed but dropped\x03") // ^C at the prompt
	expect("/ # ")
	enter("sh -c 'echo begun$((1+1)); sleep 100'\r")
	expect("\nbegun2")
	enter("\x03") // ^C to the command
	expect("/ # ")
	enter("echo status=$?\r")
	expect("status=130")
	expect("/ # ")
	enter("echo begun$((1+2)); while true; do true; done\r")
	expect("\nbegun3")
	enter("\x03") // ^C to the shell itself
	expect("/ # ")
	enter("cd /etc\r")
	expect("/etc # ")
	enter("exit 5\r")
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("exit status: %v", err)
	}
}

// TestUserland runs the packed user land in a chroot.
func TestUserland(t *testing.T) {
	root := rootfs(t)
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
		{"for i in 1 2 3; do echo $i; done | wc -l", "3\n", 0},
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
	if out, code := run("trap 'echo bye' EXIT\nfalse\n", "/bin/sh"); out != "bye\n" || code != 1 {
		t.Errorf("an EXIT trap at the end of a script: %q, %d", out, code)
	}
	if fi, err := os.Lstat(filepath.Join(root, "tmp")); err != nil || fi.Mode()&fs.ModeSticky == 0 {
		t.Errorf("/tmp: %v, %v", fi, err)
	}
}
