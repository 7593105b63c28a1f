package harness

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"strings"

	"lade/internal/need"
)

// Image is the name that Import gives.
const Image = "lade-test/busybox"

// Import gives the engine an image made of Debian's busybox-static, and returns
// its name. It has no layer or tool of ours.
func (e *Engine) Import() string {
	e.t.Helper()
	cmd := e.Command("lade", "import", "-", Image)
	cmd.Stdin = bytes.NewReader(e.Rootfs())
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("lade import: %v\n%s\n%s", err, out, e.Log())
	}
	return Image
}

// Rootfs returns a root file system of Debian's busybox-static as a tar.
func (e *Engine) Rootfs() []byte {
	e.t.Helper()
	program := need.Program(e.t, "busybox", "Debian's busybox-static")
	content, err := os.ReadFile(program)
	if err != nil {
		e.t.Fatal(err)
	}
	applets, err := exec.Command(program, "--list").Output()
	if err != nil {
		e.t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			e.t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			e.t.Fatal(err)
		}
	}
	for _, d := range []string{"bin/", "dev/", "etc/", "proc/", "sys/", "tmp/", "var/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, content)
	for name := range strings.FieldsSeq(string(applets)) {
		if name != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\n"))
	if err := w.Close(); err != nil {
		e.t.Fatal(err)
	}
	return b.Bytes()
}
