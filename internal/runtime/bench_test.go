package runtime

import (
	"slices"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/seccomp"
	"lade/internal/linux/seccomp/profile"
	"lade/internal/program"
	"lade/internal/trace"
)

// median reports the middle of the samples in microseconds, and the tenth part:
// what it is like when nobody else runs.
func median(b *testing.B, d []time.Duration, unit string) {
	slices.Sort(d)
	b.ReportMetric(float64(d[len(d)/2].Nanoseconds())/1000, unit+"-µs")
	b.ReportMetric(float64(d[len(d)/10].Nanoseconds())/1000, unit+"-p10-µs")
}

// bareExec measures vfork and exec of the same program without anything else.
func bareExec(b *testing.B, s *sandbox, n int) (d []time.Duration) {
	p, err := program.New(program.Vfork)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	path := s.root + payload
	for range n {
		p.Reset()
		p.Sys("execve", path, unix.SYS_EXECVE, p.String(path), p.Strings([]string{payload}), p.Strings(nil))
		r, err := p.Run(program.Options{Cgroup: -1, PidNS: -1})
		if err != nil {
			b.Fatal(err)
		}
		d = append(d, r.Took)
		if _, _, err := pidfd.Wait(r.Pidfd); err != nil {
			b.Fatal(err)
		}
		unix.Close(r.Pidfd)
	}
	return d
}

// netns makes a network namespace, as a pool would have it ready.
func netns(t testing.TB) int {
	t.Helper()
	fd := make(chan int)
	ns.Go(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fd <- -1
			return
		}
		n, err := ns.Open(0, unix.CLONE_NEWNET)
		if err != nil {
			n = -1
		}
		fd <- n
	})
	n := <-fd
	if n < 0 {
		t.Fatal("no network namespace")
	}
	t.Cleanup(func() { unix.Close(n) })
	return n
}

func defaultFilter(t testing.TB) []byte {
	t.Helper()
	docker, err := profile.Default(dockerCaps())
	if err != nil {
		t.Fatal(err)
	}
	f, err := seccomp.Compile(docker)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func limits() *specs.LinuxResources {
	memory, pids := int64(256<<20), int64(100)
	quota, period := int64(100000), uint64(100000)
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids},
		CPU: &specs.LinuxCPU{Quota: &quota, Period: &period},
	}
	rule := func(kind string, major, minor int64, access string) {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		r.Devices = append(r.Devices, d)
	}
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"})
	rule("c", -1, -1, "m")
	rule("b", -1, -1, "m")
	for _, n := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}} {
		rule("c", n[0], n[1], "rwm")
	}
	return r
}

// BenchmarkStart starts what `docker run --memory --cpus --pids-limit` would,
// with a network namespace from a pool. sandbox-µs is Prepare+Program, x-bare how
// many times a bare vfork+exec that is.
func BenchmarkStart(b *testing.B) {
	s := newSandbox(b)
	bare := bareExec(b, s, 50)
	filter := defaultFilter(b)
	net := netns(b)
	var prepare, prog, total []time.Duration
	steps := map[string][]time.Duration{}
	s.l.observe = func(p *program.Program) {
		seen := map[string]time.Duration{}
		for st := range p.Steps() {
			name := st.Call
			if name == "fsmount" || name == "fsconfig" || name == "write" {
				name += " " + st.Object
			}
			seen[name] += st.Took
		}
		for n, d := range seen {
			steps[n] = append(steps[n], d)
		}
	}
	for b.Loop() {
		b.StopTimer()
		c := s.container()
		c.NetNS = net
		c.Filter = filter
		c.Spec.Linux.Resources = limits()
		for _, f := range []string{"resolv.conf", "hosts", "hostname"} {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/etc/" + f, Type: "bind", Source: s.file(f, "x", 0o644), Options: []string{"rbind", "rprivate"}})
		}
		b.StartTimer()
		p, err := s.l.Start(b.Context(), c)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		prepare, prog, total = append(prepare, p.Prepare), append(prog, p.Program), append(total, p.Prepare+p.Program)
		r := &running{p, s, nil}
		s.l.Restock()
		_, _, _ = pidfd.Wait(p.Pidfd)
		r.end()
		b.StartTimer()
	}
	median(b, prepare, "prepare")
	median(b, prog, "program")
	slices.Sort(bare)
	slices.Sort(total)
	b.ReportMetric(float64(total[len(total)/2])/float64(bare[len(bare)/2]), "x-bare")
	median(b, total, "sandbox")
	median(b, bare, "bare")
	if testing.Verbose() {
		for _, e := range trace.Last()[200:] {
			b.Logf("%v %v", e, e.Start.Format("05.000000"))
		}
		type line struct {
			name string
			d    time.Duration
		}
		var lines []line
		for n, d := range steps {
			slices.Sort(d)
			lines = append(lines, line{n, d[len(d)/2]})
		}
		slices.SortFunc(lines, func(a, b line) int { return int(b.d - a.d) })
		for _, l := range lines[:min(25, len(lines))] {
			b.Logf("%8.1fµs %s", float64(l.d.Nanoseconds())/1000, l.name)
		}
	}
}

// BenchmarkExec starts an additional process in a running container.
func BenchmarkExec(b *testing.B) {
	s := newSandbox(b)
	c := s.container("sleep")
	c.Filter = defaultFilter(b)
	r, err := s.start(c)
	if err != nil {
		b.Fatal(err)
	}
	var total []time.Duration
	for b.Loop() {
		p, err := s.l.Exec(b.Context(), &Exec{Pid: r.Pid, Pidfd: r.Pidfd, Cgroup: r.Cgroup, Process: c.Spec.Process, Filter: c.Filter, Stdin: -1, Stdout: -1, Stderr: -1})
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		total = append(total, p.Prepare+p.Program)
		_ = pidfd.Signal(p.Pidfd, unix.SIGKILL)
		_, _, _ = pidfd.Wait(p.Pidfd)
		unix.Close(p.Pidfd)
		b.StartTimer()
	}
	median(b, total, "exec")
}
