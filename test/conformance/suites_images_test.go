package conformance

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// hubPath is the PATH of most images on Docker Hub.
const hubPath = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// busybox gives an engine an image like that on Docker Hub, made of Debian's,
// under each of the names.
func busybox(t *testing.T, e *harness.Engine, names ...string) {
	t.Helper()
	load(t, e, busyboxRoot(t), []string{`CMD ["sh"]`, hubPath}, names...)
}

// load makes an image of a root file system, under each of the names.
func load(t *testing.T, e *harness.Engine, root []byte, changes []string, names ...string) {
	t.Helper()
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "-c", c)
	}
	cmd := e.Command("lade", append(args, "-", names[0])...)
	cmd.Stdin = bytes.NewReader(root)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("import %s: %v\n%s", names[0], err, out)
	}
	for _, n := range names[1:] {
		e.Run("tag", names[0], n)
	}
}

// busyboxRoot is a root file system with the users and directories that the
// image on Docker Hub has.
func busyboxRoot(t *testing.T) []byte {
	t.Helper()
	program := need.Program(t, "busybox", "Debian's busybox-static")
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.CommandContext(t.Context(), program, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	a := tarball{t: t}
	for _, d := range []string{"bin", "dev", "etc", "home", "lib", "root", "usr", "usr/bin", "usr/sbin", "var", "var/spool", "var/spool/mail", "var/www"} {
		a.add(tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, "")
	}
	a.add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}, "")
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, string(content))
	for name := range strings.FieldsSeq(string(applets)) {
		if name != "busybox" {
			a.add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, "")
		}
	}
	a.add(tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/env", Linkname: "../../bin/env"}, "")
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\nsync:x:4:100:sync:/bin:/bin/sync\nmail:x:8:8:mail:/var/spool/mail:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\noperator:x:37:37:Operator:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
		"group":  "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\naudio:x:29:\nwheel:x:10:root\nmail:x:8:\nwww-data:x:33:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n",
		"shadow": "root:*:::::::\n",
	} {
		a.add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/" + name, Mode: 0o644}, text)
	}
	// Debian's has no applets for these.
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: "usr/sbin/addgroup", Mode: 0o755}, "#!/bin/sh\necho \"$3:x:$2:\" >>/etc/group # -g number name\n")
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: "usr/sbin/adduser", Mode: 0o755},
		"#!/bin/sh\ngid=$(grep \"^$5:\" /etc/group | cut -d: -f3) # -D -u number -G group name\necho \"$6:x:$3:$gid::/home/$6:/bin/sh\" >>/etc/passwd\n")
	return a.bytes()
}

// helloWorld gives an engine an image with nothing but a program that says hello,
// under each of the names.
func helloWorld(t *testing.T, e *harness.Engine, names ...string) {
	t.Helper()
	dir := t.TempDir()
	source := "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"\\nHello from Docker!\\n\\n\") }\n"
	if err := os.WriteFile(filepath.Join(dir, "hello.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), need.Program(t, "go", "Go"), "build", "-ldflags=-s -w", "-o", "hello", "hello.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(dir, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	a := tarball{t: t}
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: "hello", Mode: 0o755}, string(content))
	load(t, e, a.bytes(), []string{`CMD ["/hello"]`, hubPath}, names...)
}

// tarball is a tar file in the making.
type tarball struct {
	t *testing.T
	b bytes.Buffer
	w *tar.Writer
}

func (a *tarball) add(h tar.Header, content string) {
	a.t.Helper()
	if a.w == nil {
		a.w = tar.NewWriter(&a.b)
	}
	h.Size = int64(len(content))
	err := a.w.WriteHeader(&h)
	if err == nil {
		_, err = a.w.Write([]byte(content))
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *tarball) bytes() []byte {
	a.t.Helper()
	if err := a.w.Close(); err != nil {
		a.t.Fatal(err)
	}
	return a.b.Bytes()
}
