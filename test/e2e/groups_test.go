package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/engine/stats"
	"lade/internal/need"
	"lade/test/harness"
)

// groups is an engine whose containers are held to their limits by what they
// can do, whatever the version of control groups.
type groups struct {
	*harness.Engine
	t       *testing.T
	unified bool // version 2 only
}

// TestGroups shows every limit by its effect. What a machine lacks is named in
// the log; what both versions have is not left out.
func TestGroups(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	e.Import()
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	for _, part := range []struct {
		name string
		run  func(groups)
	}{
		{"cpus", groups.cpus}, {"shares", groups.shares}, {"cpuset", groups.cpuset}, {"realtime", groups.realtime}, {"memory", groups.memory},
		{"oomKillDisable", groups.oomKillDisable}, {"oomScore", groups.oomScore}, {"pids", groups.pids}, {"blockIO", groups.blockIO},
		{"devices", groups.devices}, {"freezer", groups.freezer}, {"pressure", groups.pressure}, {"joined", groups.joined}, {"parent", groups.parent}, {"conf", groups.conf}, {"hugePages", groups.hugePages}, {"update", groups.update},
		{"refused", groups.refused},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(groups{e, t, err == nil}) })
	}
}

// start runs a command in the background in a container of that name.
func (g groups) start(name string, args ...string) {
	g.t.Helper()
	g.Run(append([]string{"run", "-d", "--name", name, "--network", "none"}, args...)...)
	g.t.Cleanup(func() { g.Try("rm", "-f", name) })
}

// busy is a command that uses all of a processor that it gets.
func busy(flags ...string) []string {
	return append(flags, harness.Image, "sh", "-c", "while :; do :; done")
}

// try runs a command to its end in a new container, which is removed.
func (g groups) try(args ...string) (stdout, stderr string, code int) {
	g.t.Helper()
	return g.Try(append([]string{"run", "--rm", "--network", "none"}, args...)...)
}

func (g groups) pid(container string) int {
	g.t.Helper()
	pid, err := strconv.Atoi(g.Run("inspect", "--format", "{{.State.Pid}}", container))
	if err != nil {
		g.t.Fatal(err)
	}
	return pid
}

// cpuTime is what a process has used, as proc_pid_stat(5) has it.
func (g groups) cpuTime(pid int) time.Duration {
	g.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		g.t.Fatal(err)
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100
}

// share is which part of one processor a process uses.
func (g groups) share(pid int, over time.Duration) float64 {
	g.t.Helper()
	used, began := g.cpuTime(pid), time.Now()
	time.Sleep(over)
	return float64(g.cpuTime(pid)-used) / float64(time.Since(began))
}

// stats is one sample of the API, with what lade adds to Docker's.
func (g groups) stats(container string) (s stats.Sample) {
	g.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", g.Socket)
	}}}
	r, err := c.Get("http://lade/containers/" + container + "/stats?stream=false&one-shot=true")
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// soon calls f until it returns nil.
func (g groups) soon(f func() error) {
	g.t.Helper()
	unified{g.Engine, g.t, nil}.soon(f)
}

// status is one line of a process's status; see proc_pid_status(5).
func (g groups) status(pid int, key string) string {
	g.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if k, v, _ := strings.Cut(line, ":"); k == key {
			return strings.TrimSpace(v)
		}
	}
	g.t.Fatalf("no %s of process %d", key, pid)
	return ""
}

// cpus: what would use all of a processor gets a twentieth, by any of the
// flags: less than others leave it. It is held back no more as soon as the
// limit is lifted.
func (g groups) cpus() {
	for name, flags := range map[string][]string{"cpus": {"--cpus", "0.05", "--cpu-quota", "-1"}, "quota": {"--cpu-period", "50000", "--cpu-quota", "2500"}} {
		g.start(name, busy(flags...)...)
		pid := g.pid(name)
		if share := g.share(pid, 1500*time.Millisecond); share > 0.1 || share == 0 {
			g.t.Errorf("%s: %.2f of a processor, want 0.05", name, share)
		}
		g.soon(func() error {
			if d := g.stats(name).CPUStats.ThrottlingData; d.Periods == 0 || d.ThrottledPeriods == 0 || d.ThrottledTime == 0 {
				return fmt.Errorf("%s: throttling %+v", name, d)
			}
			return nil
		})
		before := g.cpuTime(pid)
		s := g.stats(name).CPUStats
		if after := g.cpuTime(pid); s.CPUUsage.TotalUsage < uint64(before)/2 || s.CPUUsage.TotalUsage > uint64(after)*2+1e8 {
			g.t.Errorf("%s: stats say %d ns, the process used %v before and %v after", name, s.CPUUsage.TotalUsage, before, after)
		}
	}
	// A limit by the one flag holds again after the other has lifted it.
	g.Run("update", "--cpu-quota", "-1", "cpus")
	g.Run("update", "--cpus", "0.05", "cpus")
	g.soon(func() error {
		before := g.stats("cpus").CPUStats.ThrottlingData
		time.Sleep(200 * time.Millisecond)
		if after := g.stats("cpus").CPUStats.ThrottlingData; after.ThrottledPeriods == before.ThrottledPeriods {
			return fmt.Errorf("the limit that was lifted and set again: throttling %+v", after)
		}
		return nil
	})
	g.Run("update", "--cpu-quota", "-1", "cpus")
	g.Run("update", "--cpu-quota", "-1", "quota")
	for _, name := range []string{"cpus", "quota"} {
		// What it gets then depends on who else wants it; it is not held back.
		g.soon(func() error {
			before := g.stats(name).CPUStats
			time.Sleep(300 * time.Millisecond)
			after := g.stats(name).CPUStats
			if after.CPUUsage.TotalUsage == before.CPUUsage.TotalUsage || after.ThrottlingData.ThrottledPeriods != before.ThrottlingData.ThrottledPeriods {
				return fmt.Errorf("%s: without the limit %+v and then %+v", name, before, after)
			}
			return nil
		})
	}
}

// shares: two that want the same processor get it as their shares are.
func (g groups) shares() {
	g.start("much", busy("--cpuset-cpus", "0", "--cpu-shares", "2048")...)
	g.start("little", busy("--cpuset-cpus", "0", "--cpu-shares", "256")...)
	ratio := func() float64 { // while the one that gets less has 200 ms, whatever others leave them
		much, little := g.pid("much"), g.pid("little")
		a, b := g.cpuTime(much), g.cpuTime(little)
		g.soon(func() error {
			if got := g.cpuTime(little) - b; got < 200*time.Millisecond {
				return fmt.Errorf("a container that shares a processor got %v", got)
			}
			return nil
		})
		return float64(g.cpuTime(much)-a) / float64(g.cpuTime(little)-b)
	}
	want, low, high := "8", 3.5, 20.0
	if g.unified { // a curve maps shares to weights: 170 and 36
		want, low, high = "4.7", 2.2, 12
	}
	if r := ratio(); r < low || r > high {
		g.t.Errorf("the ratio is %.1f, want about %s", r, want)
	}
	g.Run("update", "--cpu-shares", "256", "much")
	if r := ratio(); r < 0.5 || r > 2 {
		g.t.Errorf("with the same shares the ratio is %.1f, want about 1", r)
	}
}

// cpuset: sched_getaffinity(2) inside, and a move while it runs.
func (g groups) cpuset() {
	if out, _, _ := g.try("--cpuset-cpus", "1", "--cpuset-mems", "0", harness.Image, "grep", "_allowed_list", "/proc/self/status"); strings.Join(strings.Fields(out), " ") !=
		"Cpus_allowed_list: 1 Mems_allowed_list: 0" {
		g.t.Errorf("allowed: %q", out)
	}
	g.start("pinned", busy("--cpuset-cpus", "1")...)
	pid := g.pid("pinned")
	if on := g.status(pid, "Cpus_allowed_list"); on != "1" {
		g.t.Errorf("on %s, want 1", on)
	}
	g.Run("update", "--cpuset-cpus", "0", "pinned")
	if on := g.status(pid, "Cpus_allowed_list"); on != "0" {
		g.t.Errorf("after the update on %s, want 0", on)
	}
}

// realtime: version 1 with RT_GROUP_SCHED gives a group time for real-time
// scheduling; elsewhere it is refused with Docker's words.
func (g groups) realtime() {
	_, stderr, code := g.try("--cpu-rt-period", "1000000", "--cpu-rt-runtime", "2000000", harness.Image, "true")
	want := "cpu real-time runtime cannot be higher than cpu real-time period"
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"); err != nil {
		want = "kernel does not support CPU real-time scheduler"
	}
	if code != 125 || !strings.Contains(stderr, want) {
		g.t.Errorf("%d %q, want %q", code, stderr, want)
	}
	if strings.HasPrefix(want, "kernel") {
		return
	}
	// The groups above, which have none, are given as much.
	if out, stderr, code := g.try(probeFlags(g.t, "realtime", "--cap-add", "SYS_NICE", "--cpu-rt-period", "100000", "--cpu-rt-runtime", "1000")...); code != 0 {
		g.t.Errorf("from the start: %d %q %s", code, out, stderr)
	}
	g.start("realtime", append(probeFlags(g.t, "realtime", "--cap-add", "SYS_NICE", "--entrypoint", "sleep")[:8], harness.Image, "1000")...)
	if out, stderr, code := g.Try("exec", "realtime", "/probe"); code == 0 || !strings.Contains(out, "operation not permitted") {
		g.t.Errorf("real-time scheduling without time for it: %d %q %s", code, out, stderr)
	}
	g.Run("update", "--cpu-rt-period", "100000", "--cpu-rt-runtime", "2000", "realtime")
	if out, stderr, code := g.Try("exec", "realtime", "/probe"); code != 0 {
		g.t.Errorf("with a fiftieth of the time: %d %q %s", code, out, stderr)
	}
}

// memory: the kernel kills what exceeds the limit, and the engine tells; more
// memory by update lets the same thing pass.
func (g groups) memory() {
	eat := []string{harness.Image, "dd", "if=/dev/zero", "of=/dev/null", "bs=48M", "count=1"}
	g.Try(append([]string{"run", "--network", "none", "--name", "eater", "-m", "16m", "--memory-swap", "16m"}, eat...)...)
	g.t.Cleanup(func() { g.Try("rm", "-f", "eater") })
	if got := g.Run("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "eater"); got != "true 137" {
		g.t.Errorf("OOMKilled and exit code: %s", got)
	}
	since := strconv.FormatInt(time.Now().Add(-10*time.Minute).Unix(), 10)
	until := strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64)
	if got := g.Run("events", "--since", since, "--until", until, "--filter", "container=eater", "--filter", "event=oom", "--format", "{{.Action}}"); got != "oom" {
		g.t.Errorf("events: %q", got)
	}
	g.Run("update", "-m", "96m", "--memory-swap", "96m", "eater")
	if _, stderr, code := g.Try("start", "-a", "eater"); code != 0 {
		g.t.Errorf("with 96 MB: exit code %d, %s", code, stderr)
	}

	g.start("held", "-m", "64m", "--memory-swap", "64m", harness.Image, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; sleep 1000")
	g.soon(func() error {
		// What is in a tmpfs is charged, and no cache that could be given up.
		m := g.stats("held").MemoryStats
		if m.Usage < 8<<20 || m.Usage > 64<<20 || m.Limit != 64<<20 || len(m.Stats) < 10 {
			return fmt.Errorf("usage %d of %d, %d numbers", m.Usage, m.Limit, len(m.Stats))
		}
		return nil
	})
	// What is executed in it is killed, too, and it goes on.
	if _, stderr, code := g.Try("exec", "held", "dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"); code != 137 {
		g.t.Errorf("an exec beyond the limit: exit code %d, %s", code, stderr)
	}
	g.soon(func() error {
		until := strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64)
		got := g.Run("events", "--since", since, "--until", until, "--filter", "container=held", "--filter", "event=oom", "--format", "{{.Action}}")
		if got == "" || g.Run("inspect", "--format", "{{.State.Status}} {{.State.OOMKilled}}", "held") != "running true" {
			return fmt.Errorf("events of what goes on: %q", got)
		}
		return nil
	})
	shown := g.Run("stats", "--no-stream", "--format", "{{.MemUsage}}", "held")
	var used float64
	if _, err := fmt.Sscanf(shown, "%fMiB / 64MiB", &used); err != nil || used < 8 || used > 16 {
		g.t.Errorf("stats shows %q, want some 8 MiB", shown)
	}
}

// oomKillDisable: who is out of memory waits, and goes on when there is more.
func (g groups) oomKillDisable() {
	// It takes memory outside of system calls: those would fail instead of
	// waiting (in_user_fault in the kernel's mm/memcontrol-v1.c).
	const grow = "x=0123456789abcdef; for i in $(seq 20); do x=$x$x; done"
	args := []string{"--oom-kill-disable", "-m", "16m", "--memory-swap", "16m", harness.Image, "sh", "-c", grow}
	if g.unified {
		_, stderr, _ := g.try(args...)
		if want := "Your kernel does not support OomKillDisable. OomKillDisable discarded."; !strings.Contains(stderr, want) {
			g.t.Errorf("%q, want the warning %q", stderr, want)
		}
		return
	}
	g.start("patient", args...)
	g.soon(func() error {
		raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/memory", g.Group(), g.Run("inspect", "--format", "{{.Id}}", "patient"), "memory.oom_control"))
		if !strings.Contains(string(raw), "under_oom 1") {
			return fmt.Errorf("%s, %w", raw, err)
		}
		return nil
	})
	if state := g.Run("inspect", "--format", "{{.State.Status}}", "patient"); state != "running" {
		g.t.Errorf("it is %s", state)
	}
	g.Run("update", "-m", "96m", "--memory-swap", "96m", "patient")
	if code := g.Run("wait", "patient"); code != "0" {
		g.t.Errorf("exit code %s with more memory", code)
	}
}

func (g groups) oomScore() {
	score := func(flags ...string) int {
		out, stderr, _ := g.try(append(flags, harness.Image, "cat", "/proc/self/oom_score")...)
		n, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil {
			g.t.Errorf("%v: %v %s", flags, err, stderr)
		}
		return n
	}
	// The badness of the process itself is next to nothing.
	if low, mid, high := score(), score("--oom-score-adj", "500"), score("--oom-score-adj", "1000"); mid-low < 200 || high-mid < 200 {
		g.t.Errorf("scores %d, %d, %d", low, mid, high)
	}
}

// pids: a fork fails at the limit, not below it.
func (g groups) pids() {
	fork := []string{harness.Image, "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 100 & done; echo forked"}
	out, stderr, code := g.try(append([]string{"--pids-limit", "5"}, fork...)...)
	if code == 0 || out != "" || !strings.Contains(stderr, "Resource temporarily unavailable") {
		g.t.Errorf("six children with a limit of five: %d %q %q", code, out, stderr)
	}
	if out, stderr, code := g.try(append([]string{"--pids-limit", "9"}, fork...)...); code != 0 || out != "forked\n" {
		g.t.Errorf("six children with a limit of nine: %d %q %q", code, out, stderr)
	}
	g.start("forker", "--pids-limit", "5", harness.Image, "sleep", "1000")
	g.Run("update", "--pids-limit", "-1", "forker")
	if out, stderr, _ := g.Try(append([]string{"exec", "forker"}, fork[1:]...)...); out != "forked\n" {
		g.t.Errorf("without limit: %q %q", out, stderr)
	}
	if s := g.stats("forker").PidsStats; s.Current < 7 || s.Limit != 0 {
		g.t.Errorf("stats: %+v", s)
	}
}

// loop makes a block device of 16 MiB.
func (g groups) loop() (path string, number uint64) {
	g.t.Helper()
	back, err := os.Create(filepath.Join(g.t.TempDir(), "disk"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer back.Close()
	if err := back.Truncate(16 << 20); err != nil {
		g.t.Fatal(err)
	}
	need.File(g.t, "/dev/loop-control", "the loop module")
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	defer control.Close()
	var dev *os.File
	for dev == nil { // another process may take the number that is free
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			g.t.Fatal(err)
		}
		path = fmt.Sprintf("/dev/loop%d", n)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			g.t.Fatal(err)
		}
		if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_FD, int(back.Fd())); err == unix.EBUSY {
			f.Close()
			continue
		} else if err != nil {
			g.t.Fatal(err)
		}
		dev = f
	}
	g.t.Cleanup(func() {
		if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
			g.t.Errorf("detach the loop device: %v", err)
		}
		dev.Close()
	})
	var st unix.Stat_t
	if err := unix.Fstat(int(dev.Fd()), &st); err != nil {
		g.t.Fatal(err)
	}
	return path, st.Rdev
}

// blockIO: bytes and operations a second of direct I/O on a device, and none
// of it any more after an update.
func (g groups) blockIO() {
	dev, number := g.loop()
	for _, c := range []struct{ flag, limit, transfer string }{
		{"--device-read-bps", "2mb", "if=/dev/disk of=/dev/null iflag=direct bs=256k count=12"},
		{"--device-write-bps", "2mb", "if=/dev/zero of=/dev/disk oflag=direct bs=256k count=12"},
		{"--device-read-iops", "20", "if=/dev/disk of=/dev/null iflag=direct bs=4k count=30"},
		{"--device-write-iops", "20", "if=/dev/zero of=/dev/disk oflag=direct bs=4k count=30"},
	} {
		name := "io" + c.flag[len("--device"):]
		g.start(name, "--device", dev+":/dev/disk", c.flag, dev+":"+c.limit, harness.Image, "sleep", "1000")
		transfer := func() time.Duration {
			began := time.Now()
			g.Run(append([]string{"exec", name, "dd"}, strings.Fields(c.transfer)...)...)
			return time.Since(began)
		}
		// All of them take 1.5 s with the limit.
		if took := transfer(); took < time.Second {
			g.t.Errorf("%s %s: %v", c.flag, c.limit, took)
		}
		g.Run("update", c.flag, dev+":0", name)
		g.soon(func() error {
			if took := transfer(); took > need.Patience(time.Second) {
				return fmt.Errorf("%s without the limit: %v", c.flag, took)
			}
			return nil
		})
		var bytes uint64
		for _, e := range g.stats(name).BlkioStats.IoServiceBytesRecursive {
			if op := strings.ToLower(e.Op); e.Major == uint64(unix.Major(number)) && e.Minor == uint64(unix.Minor(number)) && (op == "read" || op == "write") {
				bytes += e.Value
			}
		}
		if bytes == 0 {
			g.t.Errorf("%s: stats count no bytes", c.flag)
		}
	}
}

// devices: a node of the host is of no use unless it was given, and no more
// than was given.
func (g groups) devices() {
	dev, number := g.loop()
	dir := g.t.TempDir()
	node := filepath.Join(dir, "disk")
	if err := unix.Mknod(node, unix.S_IFBLK|0o666, int(number)); err != nil {
		g.t.Fatal(err)
	}
	rule := fmt.Sprintf("b %d:%d", unix.Major(number), unix.Minor(number))
	const (
		read  = "dd if=/node of=/dev/null bs=512 count=1"
		write = "dd if=/dev/zero of=/node bs=512 count=1 conv=notrunc"
	)
	for _, c := range []struct {
		how             []string
		reads, mayWrite bool
		path            string
	}{
		{how: []string{"-v", node + ":/node"}},
		{how: []string{"--device", dev + ":/node"}, reads: true, mayWrite: true},
		{how: []string{"--device", dev + ":/node:r"}, reads: true},
		{how: []string{"--device", dev + ":/node:w"}, mayWrite: true},
		{how: []string{"--device", dev + ":/node:m"}},
		{how: []string{"-v", node + ":/node", "--device-cgroup-rule", rule + " rw"}, reads: true, mayWrite: true},
		{how: []string{"-v", node + ":/node", "--device-cgroup-rule", "b " + strconv.Itoa(int(unix.Major(number))) + ":* r"}, reads: true},
		{how: []string{"--device", dir + ":/dev/given:r"}, reads: true, path: "/dev/given/disk"},
		{how: []string{"--privileged", "-v", node + ":/node"}, reads: true, mayWrite: true},
	} {
		for _, do := range []struct {
			command string
			allowed bool
		}{{read, c.reads}, {write, c.mayWrite}} {
			command := do.command
			if c.path != "" {
				command = strings.ReplaceAll(command, "/node", c.path)
			}
			_, stderr, code := g.try(append(append([]string{}, c.how...), harness.Image, "sh", "-c", command)...)
			if denied := strings.Contains(stderr, "Operation not permitted"); denied == do.allowed || (code == 0) != do.allowed {
				g.t.Errorf("%s: %s: exit code %d, %s", strings.Join(c.how, " "), command, code, stderr)
			}
		}
	}
	command := fmt.Sprintf("mknod /made b %d %d; dd if=/made of=/dev/null bs=512 count=1", unix.Major(number), unix.Minor(number))
	if _, stderr, code := g.try(harness.Image, "sh", "-c", command); code == 0 || !strings.Contains(stderr, "Operation not permitted") {
		g.t.Errorf("a node that the container made: %d %s", code, stderr)
	}
	for _, bad := range []struct{ how, err string }{
		{"--device=/dev/nope", "error gathering device information while adding custom device"},
		{"--device-cgroup-rule=c 1:x r", "invalid device cgroup format"},
	} {
		if _, stderr, code := g.try(bad.how, harness.Image, "true"); code < 125 || !strings.Contains(stderr, bad.err) {
			g.t.Errorf("%s: %d %s", bad.how, code, stderr)
		}
	}
}

// freezer: a paused container uses no time.
func (g groups) freezer() {
	g.start("frozen", busy()...)
	pid := g.pid("frozen")
	g.Run("pause", "frozen")
	if share := g.share(pid, 300*time.Millisecond); share > 0 {
		g.t.Errorf("it uses %.2f of a processor while it is paused", share)
	}
	g.Run("update", "--cpus", "0.5", "frozen")
	g.Run("unpause", "frozen")
	g.soon(func() error {
		if g.share(pid, 200*time.Millisecond) == 0 {
			return fmt.Errorf("it does not go on")
		}
		return nil
	})
}

// pressure: two that want one processor wait for each other half of the time.
func (g groups) pressure() {
	g.start("pressed", "--cpuset-cpus", "0", harness.Image, "sh", "-c", "while :; do :; done & while :; do :; done")
	before := g.stats("pressed").Pressure
	if before == nil {
		if _, err := os.Stat("/proc/pressure/cpu"); err == nil {
			g.t.Errorf("the kernel knows pressure, stats do not")
		}
		g.t.Logf("this kernel does not tell pressure")
		return
	}
	g.soon(func() error {
		if waited := g.stats("pressed").Pressure.CPU.Some.Total - before.CPU.Some.Total; waited < 200000 {
			return fmt.Errorf("processes waited %d µs", waited)
		}
		return nil
	})
}

// joined: who joins another's network has its numbers.
func (g groups) joined() {
	g.Run("run", "-d", "--name", "owner", harness.Image, "sleep", "1000")
	g.t.Cleanup(func() { g.Try("rm", "-f", "owner") })
	g.Run("run", "-d", "--name", "guest", "--network", "container:owner", harness.Image, "sleep", "1000")
	g.t.Cleanup(func() { g.Try("rm", "-f", "guest") })
	if n := g.stats("guest").Networks; len(n) != 1 || len(g.stats("owner").Networks) != 1 {
		g.t.Errorf("networks %v", n)
	}
}

// parent: groups below the one that was asked for, which are gone with the last
// container in them; one that was there before stays.
func (g groups) parent() {
	parent := "/" + g.Group() + "/of/these"
	g.start("below", "--cgroup-parent", parent, harness.Image, "sleep", "1000")
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", g.pid("below")))
	if err != nil || !strings.Contains(string(raw), ":"+parent+"/"+g.Run("inspect", "--format", "{{.Id}}", "below")) {
		g.t.Errorf("control groups of below: %s, %v", raw, err)
	}
	if got := g.Run("inspect", "--format", "{{.HostConfig.CgroupParent}}", "below"); got != parent {
		g.t.Errorf("inspect says %s", got)
	}
	g.start("beside", "--cgroup-parent", filepath.Dir(parent), harness.Image, "sleep", "1000")
	in := func(group string) int {
		found, err := filepath.Glob("/sys/fs/cgroup" + group)
		if err != nil {
			g.t.Errorf("look for control groups: %v", err)
		}
		more, _ := filepath.Glob("/sys/fs/cgroup/*" + group)
		return len(found) + len(more)
	}
	goes := func(group string, others ...string) {
		g.soon(func() error {
			if n := in(group); n > 0 {
				return fmt.Errorf("%s is still in %d hierarchies", group, n)
			}
			return nil
		})
		for _, other := range others {
			if in(other) == 0 {
				g.t.Errorf("%s went with %s", other, group)
			}
		}
	}
	g.Run("rm", "-f", "below")
	goes(parent, filepath.Dir(parent))
	g.Run("rm", "-f", "beside")
	goes(filepath.Dir(parent))
}

// conf: files of version 2 by name.
func (g groups) conf() {
	if _, stderr, code := g.try("--cgroup-conf", "memory.what=1", harness.Image, "true"); code == 0 {
		g.t.Errorf("a file that no group has: %s", stderr)
	}
	if !g.unified {
		_, stderr, code := g.try("--annotation", "lade.cgroup-conf.memory.high=8000000", harness.Image, "true")
		if want := "--cgroup-conf memory.high: "; code != 125 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "version 1") {
			g.t.Errorf("a key of version 2 on version 1, exit code and words: %d %s", code, stderr)
		}
		return
	}
	// Above memory.high nobody is killed, but held up, and what can be is given back.
	g.start("high", "--cgroup-conf", "memory.high=8000000", "--annotation", "lade.cgroup-conf.pids.max=7", harness.Image, "sh", "-c",
		"dd if=/dev/zero of=/tmp/x bs=1M count=24 2>/dev/null; sleep 1000")
	g.soon(func() error {
		raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", g.Group(), g.Run("inspect", "--format", "{{.Id}}", "high"), "memory.events"))
		for line := range strings.Lines(string(raw)) {
			if f := strings.Fields(line); f[0] == "high" && f[1] != "0" {
				return nil
			}
		}
		return fmt.Errorf("memory.high has no effect: %s, %w", raw, err)
	})
	if _, stderr, code := g.Try("exec", "high", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 100 & done"); code == 0 {
		g.t.Errorf("pids.max by annotation has no effect: %s", stderr)
	}
}

// update: what is refused changes nothing; what is accepted outlives a restart
// of container and daemon.
func (g groups) update() {
	g.start("kept", "-m", "64m", "--cpus", "0.5", harness.Image, "sleep", "1000")
	for _, c := range []struct{ args, err string }{
		{"-m 256m", "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
		{"--cpu-period 1000", "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"},
		{"-m 1m", "Minimum memory limit allowed is 6MB"},
		{"--memory-reservation 90m", "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{"--cpuset-cpus 99", "Requested CPUs are not available - requested 99, available: "},
		{"--device-read-bps /dev/null:1mb", "/dev/null is not a block device"},
	} {
		_, stderr, code := g.Try(append(append([]string{"update"}, strings.Fields(c.args)...), "kept")...)
		if code == 0 || !strings.Contains(stderr, c.err) {
			g.t.Errorf("update %s: %d %s", c.args, code, stderr)
		}
	}
	if got := g.Run("inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", "kept"); got != "67108864 500000000" {
		g.t.Errorf("after what was refused: %s", got)
	}
	g.Run("update", "-m", "32m", "--memory-swap", "32m", "--cpuset-cpus", "1", "--pids-limit", "5", "--restart", "on-failure:3", "kept")
	g.Run("restart", "-t", "0", "kept")
	if on := g.status(g.pid("kept"), "Cpus_allowed_list"); on != "1" {
		g.t.Errorf("after a restart on %s, want 1", on)
	}
	if got := g.Run("inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "kept"); got != "33554432 on-failure" {
		g.t.Errorf("after a restart: %s", got)
	}
	if s := g.stats("kept"); s.MemoryStats.Limit != 32<<20 || s.PidsStats.Limit != 5 {
		g.t.Errorf("after a restart: %d bytes, %d processes", s.MemoryStats.Limit, s.PidsStats.Limit)
	}
}

// refused are what dockerd refuses and what it warns of.
func (g groups) refused() {
	for _, c := range []struct{ args, err string }{
		{"-m 1m", "Minimum memory limit allowed is 6MB"},
		{"-m 64m --memory-swap 32m", "Minimum memoryswap limit should be larger than memory limit, see usage"},
		{"--memory-swap 64m", "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{"-m 8m --memory-reservation 16m", "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{"--cpus 1000", "range of CPUs is from 0.01 to "},
		{"--cpus 0.009", "range of CPUs is from 0.01 to "},
		{"--cpuset-cpus 99", "Requested CPUs are not available - requested 99, available: 0"},
		{"--cpuset-mems 99", "Requested memory nodes are not available - requested 99, available: 0"},
		{"--cpu-period 1", "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{"--cpu-quota 1", "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		{"--device-write-iops /dev/null:5", "/dev/null is not a block device"},
		{"--oom-score-adj 2000", "Invalid value 2000, range for oom score adj is [-1000, 1000]"},
	} {
		_, stderr, code := g.try(append(strings.Fields(c.args), harness.Image, "true")...)
		if code != 125 || !strings.Contains(stderr, c.err) {
			g.t.Errorf("%s: %d %s", c.args, code, stderr)
		}
	}
	// A kernel without a scheduler that weighs is no reason to refuse.
	if _, stderr, code := g.try("--blkio-weight", "1", harness.Image, "true"); !strings.Contains(stderr, "Range of blkio weight is from 10 to 1000") &&
		(code != 0 || !strings.Contains(stderr, "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")) {
		g.t.Errorf("--blkio-weight 1: %d %s", code, stderr)
	}
	if names := g.Run("ps", "-aq"); names != "" {
		g.t.Errorf("left behind: %s", names)
	}
}
