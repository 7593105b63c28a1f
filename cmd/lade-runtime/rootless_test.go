package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/need"
)

// person is a user without privileges, with a bundle and a state of its own.
type person struct {
	t        *testing.T
	dir, exe string
	id       uint32
}

// newPerson makes the directory of a user that no file of the system belongs to.
func newPerson(t *testing.T) *person {
	t.Helper()
	need.Root(t)
	dir, err := os.MkdirTemp("/tmp", "lade-rootless")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &person{t, dir, filepath.Join(dir, "rootfs/payload"), 4242}
	for _, d := range []string{"", "rootfs", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/tmp", "run"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	self, xerr := os.Executable()
	b, rerr := os.ReadFile(self)
	if err = errors.Join(err, xerr, rerr, os.WriteFile(p.exe, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(p.id), int(p.id)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// command is lade-runtime as that user runs it.
func (p *person) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.exe, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"VERBS=1", "PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=" + p.dir + "/run"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.id, Gid: p.id}}
	return cmd
}

func (p *person) do(args ...string) string {
	p.t.Helper()
	var out, errs bytes.Buffer
	cmd := p.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("%v: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

func (p *person) fails(want string, args ...string) {
	p.t.Helper()
	out, err := p.command(args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), want) {
		p.t.Errorf("%v: %v %s; want %q", args, err, out, want)
	}
}

// bundle makes the bundle that `spec --rootless` makes, with changes.
func (p *person) bundle(edit func(*specs.Spec)) {
	p.t.Helper()
	file := filepath.Join(p.dir, "config.json")
	if err := os.RemoveAll(file); err != nil {
		p.t.Fatal(err)
	}
	p.do("spec", "--rootless")
	(&rig{t: p.t, bundle: p.dir}).edit(func(s *specs.Spec) {
		s.Process.Terminal = false
		edit(s)
	})
}

// TestRootless has a user without privileges use every verb.
func TestRootless(t *testing.T) {
	p := newPerson(t)
	p.bundle(func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "show", "ids", "cwd", "file=/proc/self/uid_map"}
		s.Process.Cwd = "/tmp"
	})
	out := p.do("run", "one")
	if want := "ids 0 0 [] <nil>\ncwd /tmp <nil>\nfile [0 4242 1] <nil>\n"; out != want {
		t.Errorf("%q; want %q", out, want)
	}

	p.bundle(func(s *specs.Spec) { s.Process.Args = []string{"/payload", "exit", "1", "2"} })
	err := p.command("run", "two").Run()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 3 {
		t.Errorf("exit code: %v", err)
	}

	p.bundle(func(s *specs.Spec) { s.Process.Args = []string{"/payload", "sleep"} })
	if err := p.command("create", "three").Run(); err != nil { // it keeps the streams
		t.Fatal(err)
	}
	defer func() { _ = p.command("delete", "--force", "three").Run() }()
	status := func() string {
		return p.do("list", "--format", "json")
	}
	if s := status(); !strings.Contains(s, `"status":"created"`) || !strings.Contains(s, `"owner":"#4242"`) {
		t.Errorf("created: %s", s)
	}
	p.do("start", "three")
	if s := status(); !strings.Contains(s, `"status":"running"`) {
		t.Errorf("started: %s", s)
	}
	if out := p.do("exec", "--cwd", "/tmp", "three", "/payload", "show", "ids", "cwd"); out != "ids 0 0 [] <nil>\ncwd /tmp <nil>\n" {
		t.Errorf("exec: %q", out)
	}
	err = p.command("exec", "three", "/payload", "exit", "1").Run()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 2 {
		t.Errorf("exit code of an exec: %v", err)
	}
	p.fails("no such file", "exec", "three", "/nothing")
	p.do("kill", "three", "KILL")
	for end := time.Now().Add(10 * time.Second); !strings.Contains(status(), `"status":"stopped"`) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	p.do("delete", "three")
	if s := strings.TrimSpace(status()); s != "[]" && s != "null" {
		t.Errorf("left: %s", s)
	}
}

// TestRootlessSignals ends a container by a signal to the program that the user
// started: it is two programs away from the container.
func TestRootlessSignals(t *testing.T) {
	p := newPerson(t)
	p.bundle(func(s *specs.Spec) { s.Process.Args = []string{"/payload", "sleep"} })
	cmd := p.command("run", "signalled")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 6)
	if _, err := io.ReadFull(out, ready); err != nil {
		t.Fatal(err)
	}
	// Process 1 has no handler for it but the Go runtime's.
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*exec.ExitError](cmd.Wait()); !ok || e.ExitCode() <= 0 {
		t.Errorf("%v", e)
	}
}

// TestRootlessRange has newuidmap(1) give the user a range of ids, which files of
// the system's say is his: those of a mount namespace of this test.
func TestRootlessRange(t *testing.T) {
	p := newPerson(t)
	need.Program(t, "newuidmap", "Debian's uidmap")
	files := t.TempDir()
	script := "set -e\n"
	for name, line := range map[string]string{
		"passwd": "person:x:4242:4242::/:/bin/sh", "group": "person:x:4242:", "subuid": "person:700000:100", "subgid": "person:800000:100",
	} {
		file := filepath.Join(files, name)
		if err := os.WriteFile(file, []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		script += "mount --bind " + file + " /etc/" + name + "\n"
	}
	p.bundle(func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "show", "ids", "file=/proc/self/uid_map", "file=/proc/self/gid_map"}
		s.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}
		s.Linux.UIDMappings = append(s.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 700000, Size: 100})
		s.Linux.GIDMappings = append(s.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 800000, Size: 100})
	})
	run := p.command("run", "range")
	run.Args = append([]string{"unshare", "--mount", "sh", "-c", script + `exec setpriv --reuid 4242 --regid 4242 --clear-groups "$@"`, "sh"}, run.Args...)
	run.Path = need.Program(t, "unshare", "util-linux")
	run.SysProcAttr = nil
	out, err := run.CombinedOutput()
	if want := "ids 7 8 [9] <nil>\nfile [0 4242 1 1 700000 100] <nil>\nfile [0 4242 1 1 800000 100] <nil>\n"; err != nil || string(out) != want {
		t.Errorf("%v %s; want %s", err, out, want)
	}
}

// TestRootlessRefused asks for what a user without privileges cannot have.
func TestRootlessRefused(t *testing.T) {
	p := newPerson(t)
	limit := int64(1 << 26)
	for want, edit := range map[string]func(*specs.Spec){
		"rootless container requires user namespaces": func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] },
		"has no control groups": func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		},
		"nothing is mapped to 0": func(s *specs.Spec) { s.Linux.UIDMappings[0].ContainerID = 1 },
		"may not have these ids": func(s *specs.Spec) { s.Linux.UIDMappings[0].HostID = 0 },
	} {
		p.bundle(edit)
		p.fails(want, "run", "refused")
	}
	if left, err := os.ReadDir(p.dir + "/run/lade-runtime"); err == nil && len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
