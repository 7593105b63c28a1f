package bench

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/seccomp/profile"
	"lade/internal/need"
)

// bundle makes what `spec` makes, with every namespace that it names, control
// groups and masks, around a program that does nothing; edit changes it.
func bundle(t *testing.T, runtime string, edit func(*specs.Spec)) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/true"), nothing(t), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(runtime, "spec", "--bundle", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	var s specs.Spec
	file := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Process.Terminal, s.Process.Args = false, []string{"/bin/true"}
	edit(&s)
	if raw, err = json.Marshal(s); err == nil {
		err = os.WriteFile(file, raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// nothing returns a program that ends at once: what a C library does before main,
// a tenth of a millisecond of CPUID alone where a hypervisor answers it, is not
// the runtime's time. elf(5).
func nothing(t *testing.T) []byte {
	t.Helper()
	code := map[string][]byte{
		"amd64": {0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05},                  // exit(0)
		"arm64": {0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4}, // the same
	}[goruntime.GOARCH]
	const at, headers = 0x400000, 64 + 56
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Version: 1, Entry: at + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	h.Machine = uint16(map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[goruntime.GOARCH])
	size := uint64(headers + len(code))
	load := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: at, Paddr: at, Filesz: size, Memsz: size, Align: 0x1000}
	var out bytes.Buffer
	for _, part := range []any{h, load, code} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// asDocker makes of a specification by `spec` that of a container of Docker's
// without options: its capabilities, devices, hidden paths, cgroup namespace and
// profile of seccomp.
func asDocker(t *testing.T, s *specs.Spec) {
	t.Helper()
	set := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
	s.Root.Readonly = false
	s.Process.NoNewPrivileges, s.Process.Rlimits = false, nil
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set}
	docker, err := profile.Default(set)
	if err != nil {
		t.Fatal(err)
	}
	l := s.Linux
	l.Seccomp = docker
	if !slices.ContainsFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace }) {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	l.MaskedPaths = append(l.MaskedPaths, "/proc/interrupts", "/sys/devices/virtual/powercap")
	allow := func(kind, access string, major, minor *int64) {
		l.Resources.Devices = append(l.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: major, Minor: minor, Access: access})
	}
	allow("c", "m", nil, nil)
	allow("b", "m", nil, nil)
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}} {
		allow("c", "rwm", &d[0], &d[1])
	}
	allow("c", "rwm", new(int64(136)), nil)
}

// mapped gives a bundle a user namespace, whose root is nobody outside.
func mapped(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
}

// installed copies a program, as to install it does. The linker writes it through
// a mapping, page by page, and so the page cache keeps it until the file is read
// anew: to map such a file takes a Go program that does nothing 0.2 ms, and
// lade-runtime 0.7, of the time of the copy.
func installed(t *testing.T, program string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(program))
	raw, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(to, raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// bare builds a Go program that does nothing.
func bare(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "bare.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "bare")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, msg)
	}
	return installed(t, out)
}

// floor builds the program that makes the system calls of a start and no more.
func floor(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "floor")
	msg, err := exec.Command(need.Program(t, "gcc", "Debian's gcc"), "-O1", "-nostdlib", "-static", "-ffreestanding", "-fno-builtin", "-fno-stack-protector",
		"-o", out, "testdata/floor.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, msg)
	}
	return out
}

// contender is a program whose runs are compared.
type contender struct {
	command []string
	wall    times
	cpu     times
	faults  []float64
}

// run measures one run. What it says goes to a file: a pipe would have to be read
// meanwhile, by this process, on one of its processors.
func (c *contender) run(t *testing.T) {
	t.Helper()
	said, err := os.CreateTemp("", "lade-bench-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(said.Name())
	defer said.Close()
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Stdout, cmd.Stderr = said, said
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(said.Name())
		t.Fatalf("%s: %v %s", strings.Join(c.command, " "), err, out)
	}
	c.wall = append(c.wall, time.Since(begin))
	c.cpu = append(c.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	c.faults = append(c.faults, float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Minflt))
}

// turn runs it some times after one that does not count: the kernel goes on for
// some milliseconds with what the contender before has left, such as its network
// namespace, and that one's programs are what the processor remembers.
func (c *contender) turn(t *testing.T, n int) {
	t.Helper()
	last := *c
	c.run(t)
	c.wall, c.cpu, c.faults = last.wall, last.cpu, last.faults
	for range n {
		c.run(t)
	}
}

// note prints the medians.
func (c *contender) note(t *testing.T, name string) {
	t.Helper()
	note(t, name, c.wall.median(), "ms")
	note(t, "… processor time", c.cpu.median(), "ms")
	slices.Sort(c.faults)
	note(t, "… page faults", c.faults[len(c.faults)/2], "")
}

// onTmpfs returns a directory in memory, as /run is, where runtimes keep their
// state. (Where /run is part of the disk a run costs half a millisecond more.)
func onTmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestRuntimeCommand measures `lade-runtime run` of bundles with all namespaces
// beside a Go program that does nothing and, with BENCH_PEERS=1, Debian's runc and
// the bare system calls: by turns, again and again, so that a slow minute is slow
// for all.
func TestRuntimeCommand(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	runtime := installed(t, need.Binary(t, "lade-runtime"))
	plain := bundle(t, runtime, func(*specs.Spec) {})
	engines := bundle(t, runtime, func(s *specs.Spec) { asDocker(t, s) })
	state := onTmpfs(t)
	of := func(program, name, dir string) *contender {
		return &contender{command: []string{program, "--root", state + "/" + name, "run", "--bundle", dir, "lade-bench-" + name}}
	}
	idle := &contender{command: []string{bare(t)}}
	lade, filtered, user := of(runtime, "lade", plain), of(runtime, "lade-engine", engines), of(runtime, "lade-user", bundle(t, runtime, mapped))
	all := []*contender{idle, lade, filtered, user}
	peers := os.Getenv("BENCH_PEERS") == "1"
	var least, runc, runcFiltered *contender
	if peers {
		least = &contender{command: []string{floor(t), state + "/floor", plain + "/rootfs", "lade-bench-floor"}}
		debian := need.Program(t, "runc", "Debian's runc")
		runc, runcFiltered = of(debian, "runc", plain), of(debian, "runc-engine", engines)
		all = append(all, least, runc, runcFiltered)
	}
	for range 10 {
		for _, c := range all {
			c.turn(t, 5)
		}
	}
	idle.note(t, "a Go program that does nothing")
	lade.note(t, "lade-runtime run")
	filtered.note(t, "… of an engine's bundle")
	limit(t, "lade-runtime run, more than that Go program", lade.wall.median()-idle.wall.median(), 5, "ms")
	user.note(t, "… with a user namespace")
	note(t, "… of one without", user.wall.median()/lade.wall.median(), "x")
	note(t, "… processor time", user.cpu.median()/lade.cpu.median(), "x")
	if peers {
		least.note(t, "the same system calls alone")
		note(t, "… and the start of a Go program", least.wall.median()+idle.wall.median(), "ms")
		note(t, "… processor time", least.cpu.median()+idle.cpu.median(), "ms")
		runc.note(t, "runc run")
		runcFiltered.note(t, "… of an engine's bundle")
		note(t, "lade-runtime run, as a share of runc run", lade.wall.median()/runc.wall.median(), "")
		limit(t, "… of an engine's bundle", filtered.wall.median()/runcFiltered.wall.median(), 1.0/8, "")
	}
}
