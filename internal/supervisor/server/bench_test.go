package server

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/digest"
	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/seccomp"
	"lade/internal/linux/seccomp/profile"
	"lade/internal/need"
	"lade/internal/program"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// docker makes requests like the one that laded sends for
//
//	docker run --memory 256m --cpus 1 --pids-limit 100
//
// to the real supervisor.
type docker struct {
	*rooted
	filter string
	netns  *os.File
}

func newDocker(b *testing.B) *docker {
	d := &docker{rooted: newRooted(b, false)}
	root, err := os.MkdirTemp("/dev/shm", "ladetest")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(root) })
	d.root = root
	d.connect(supervisor.Options{Binary: need.Binary(b, "lade-supervisor"), Args: []string{"--idle-exit", "300ms"}})
	docker, err := profile.Default(nil)
	if err != nil {
		b.Fatal(err)
	}
	code, err := seccomp.Compile(docker)
	if err != nil {
		b.Fatal(err)
	}
	d.filter = string(digest.FromBytes(code))
	if err := d.client.PutFilter(b.Context(), &wire.PutFilter{Digest: d.filter, Code: code}); err != nil {
		b.Fatal(err)
	}
	// As one of the daemon's pool.
	made := make(chan int)
	ns.Go(func() {
		fd := -1
		if unix.Unshare(unix.CLONE_NEWNET) == nil {
			fd, _ = ns.Open(0, unix.CLONE_NEWNET)
		}
		made <- fd
	})
	fd := <-made
	if fd < 0 {
		b.Fatal("no network namespace")
	}
	d.netns = os.NewFile(uintptr(fd), "netns")
	b.Cleanup(func() { d.netns.Close() })
	return d
}

func (d *docker) message(args ...string) *wire.Start {
	raw, err := os.ReadFile("testdata/start.json")
	if err != nil {
		d.t.Fatal(err)
	}
	m := d.rooted.message()
	dir := filepath.Join(d.disk, "ctr", m.ID)
	for _, f := range []string{"resolv.conf", "hosts", "hostname"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o644); err != nil {
			d.t.Fatal(err)
		}
	}
	text := strings.NewReplacer("ID", m.ID, "DIR", dir, "IMAGE", d.image, "FILTER", d.filter).Replace(string(raw))
	m = &wire.Start{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		d.t.Fatal(err)
	}
	m.Spec.Process.Args = append([]string{payload}, args...)
	return m
}

// processorTime returns how much a process has used.
func processorTime(b *testing.B, pid int) time.Duration {
	var ts unix.Timespec
	clock := int32(^pid<<3 | 2) // CPUCLOCK_SCHED of the process: see clock_getcpuclockid(3)
	if _, _, errno := unix.Syscall(unix.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		b.Fatal(errno)
	}
	return time.Duration(ts.Nano())
}

// waits returns how often the threads of a process have waited.
func waits(pid int) (n int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		status, _ := os.ReadFile(f)
		_, after, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
		line, _, _ := strings.Cut(after, "\n")
		k, _ := strconv.Atoi(strings.TrimSpace(line))
		n += k
	}
	return n
}

// report gives the middle, and the tenth part: what it is like when nobody else
// runs.
func report(b *testing.B, unit string, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), unit+"-µs")
	b.ReportMetric(float64(all[len(all)/10].Microseconds()), unit+"-p10-µs")
}

// BenchmarkDockerStart is a start from the request to the answer, which comes
// after execve(2), and what a container's whole life costs the supervisor; with
// the vfork and execve alone beside it.
func BenchmarkDockerStart(b *testing.B) {
	d := newDocker(b)
	pid := d.hello.Pid
	var bare, request, prepare, prog []time.Duration
	var cpu time.Duration
	switches := 0
	for i := -5; i < 0 || b.Loop(); i++ { // the first ones touch memory
		if i == 0 {
			bare, request, prepare, prog = nil, nil, nil, nil
			cpu, switches = processorTime(b, pid), waits(pid)
		}
		m := d.message("exit", "0")
		m.NetNS = 1
		began := time.Now()
		s, err := d.client.Start(b.Context(), m, d.netns)
		if err != nil {
			b.Fatal(err)
		}
		request = append(request, time.Since(began))
		prepare, prog = append(prepare, s.Prepare), append(prog, s.Program)
		s.Close()
		d.events.exit(m.ID, "")
		if err := d.client.Forget(b.Context(), &wire.Forget{ID: m.ID}); err != nil {
			b.Fatal(err)
		}
		need.Eventually(b, "the clean-up", func() bool { return !d.hasGroup(m.ID) })
		bare = append(bare, bareExec(b, d.image+payload))
	}
	n := float64(len(request))
	b.ReportMetric(float64((processorTime(b, pid)-cpu).Microseconds())/n, "cpu-µs")
	b.ReportMetric(float64(waits(pid)-switches)/n, "waits")
	report(b, "request", request)
	report(b, "prepare", prepare)
	report(b, "program", prog)
	report(b, "bare", bare)
}

// BenchmarkDockerExec is the start of a process in a running container.
func BenchmarkDockerExec(b *testing.B) {
	d := newDocker(b)
	m := d.message("sleep")
	m.NetNS = 1
	s, err := d.client.Start(b.Context(), m, d.netns)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	pid := d.hello.Pid
	var request, inside []time.Duration
	var cpu time.Duration
	switches := 0
	for i := -5; i < 0 || b.Loop(); i++ {
		if i == 0 {
			request, inside = nil, nil
			cpu, switches = processorTime(b, pid), waits(pid)
		}
		id := fmt.Sprintf("e%d", i+5)
		x := &wire.Exec{ID: m.ID, ExecID: id, Filter: m.Filter, Stdio: wire.Stdio{Stdout: true, Stderr: true}, Process: &specs.Process{
			Args: []string{payload, "exit", "0"}, Env: m.Spec.Process.Env, Cwd: "/", Capabilities: m.Spec.Process.Capabilities,
		}}
		began := time.Now()
		p, err := d.client.Exec(b.Context(), x)
		if err != nil {
			b.Fatal(err)
		}
		request, inside = append(request, time.Since(began)), append(inside, p.Prepare+p.Program)
		p.Close()
		d.events.exit(m.ID, id)
		if err := d.client.Forget(b.Context(), &wire.Forget{ID: m.ID, ExecID: id}); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(len(request))
	b.ReportMetric(float64((processorTime(b, pid)-cpu).Microseconds())/n, "cpu-µs")
	b.ReportMetric(float64(waits(pid)-switches)/n, "waits")
	report(b, "request", request)
	report(b, "inside", inside)
	if err := d.client.Signal(b.Context(), &wire.Signal{ID: m.ID, Signal: int(unix.SIGKILL)}); err != nil {
		b.Fatal(err)
	}
	d.events.exit(m.ID, "")
}

// bareExec executes a program and does nothing else.
func bareExec(b *testing.B, path string) time.Duration {
	p, err := program.New(program.Vfork)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	p.Sys("execve", path, unix.SYS_EXECVE, p.String(path), p.Strings([]string{payload, "exit", "0"}), p.Strings(nil))
	r, err := p.Run(program.Options{Cgroup: -1, PidNS: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(r.Pidfd)
	if _, _, err := pidfd.Wait(r.Pidfd); err != nil {
		b.Fatal(err)
	}
	return r.Took
}
