package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// parent is where the tests make their groups.
var parent = fmt.Sprintf("/ladetest-%d", os.Getpid())

func detect(t testing.TB) *Host {
	t.Helper()
	need.Root(t)
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func create(t testing.TB, h *Host, r *specs.LinuxResources) *Group {
	t.Helper()
	g, err := h.Create(path.Join(parent, strings.ReplaceAll(t.Name(), "/", "-")), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), need.Patience(30*time.Second))
		defer cancel()
		if err := g.Kill(ctx); err != nil {
			t.Errorf("Kill: %v", err)
		}
		if err := g.Delete(ctx); err != nil {
			t.Errorf("Delete: %v", err)
		}
		for _, m := range slices.Concat(h.all(), h.named) {
			if m.exists(g.path) {
				t.Errorf("%s: still there", path.Join(m.mount, g.path))
			}
			_ = m.rmdir(path.Dir(g.path))
		}
	})
	return g
}

// enter is the environment variable that makes the test binary a process of a
// group: it writes itself to the tasks files that it inherited from descriptor
// 3 on, and becomes the shell.
const enter = "LADE_TEST_ENTER"

func TestMain(m *testing.M) {
	if size := os.Getenv(huge); size != "" {
		mapHuge(size)
	}
	if device := os.Getenv(verbs); device != "" {
		openContexts(device)
	}
	if os.Getenv(fifo) != "" {
		beFIFO()
	}
	if n, err := strconv.Atoi(os.Getenv(enter)); err == nil {
		// The runtime's threads were made before: move all of them. The shell
		// that follows has one.
		for fd := 3; fd < 3+n; fd++ {
			tasks, err := os.ReadDir("/proc/self/task")
			if err != nil {
				fmt.Println(err)
				os.Exit(99)
			}
			for _, task := range tasks {
				if _, err := unix.Write(fd, []byte(task.Name())); err != nil && err != unix.ESRCH {
					fmt.Println("tasks:", fd, err)
					os.Exit(99)
				}
			}
		}
		if n, err := strconv.Atoi(os.Getenv("LADE_TEST_OOM_SCORE")); err == nil {
			_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(n)), 0)
		}
		_ = unix.Exec("/bin/sh", append([]string{"sh", "-c"}, os.Args[1:]...), os.Environ())
		os.Exit(98)
	}
	os.Exit(m.Run())
}

// command prepares a shell script that runs in the group by the descriptors of
// AttachFDs. release closes them; call it after Start.
func command(t testing.TB, g *Group, script string, args ...string) (cmd *exec.Cmd, release func()) {
	t.Helper()
	tasks, into, err := g.AttachFDs()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("/proc/self/exe", append([]string{script, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), enter+"="+strconv.Itoa(len(tasks)))
	for _, fd := range tasks {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), "tasks"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if into >= 0 {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, into
	}
	return cmd, func() {
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
		unix.Close(into)
	}
}

// output runs a script in the group to its end.
func output(t testing.TB, g *Group, script string, args ...string) (string, error) {
	t.Helper()
	cmd, release := command(t, g, script, args...)
	defer release()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// background starts a script that prints a line when it is ready.
func background(t testing.TB, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd, release := command(t, g, script)
	defer release()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = g.Kill(t.Context())
		_ = cmd.Process.Kill()
		<-done
	})
	line, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

func TestCreateAttachDelete(t *testing.T) {
	h := detect(t)
	t.Logf("version %d, controllers %v, features %+v", h.Version(), h.Controllers(), h.Features())
	g := create(t, h, nil)
	out, err := output(t, g, "cat /proc/self/cgroup")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if strings.HasPrefix(f[1], "name=") && h.unified != nil {
			continue
		}
		if f[2] != g.Path() {
			t.Errorf("attached to %s", strings.TrimSpace(line))
		}
	}
	if _, err := h.Create(g.Path(), nil); err != nil { // an empty leftover
		t.Error(err)
	}
	background(t, g, "echo ready; read x; sleep 100")
	if _, err := h.Create(g.Path(), nil); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("Create of a group in use: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := g.Delete(ctx); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("Delete of a group in use: %v", err)
	}
}

func BenchmarkCreateDelete(b *testing.B) {
	h := detect(b)
	r := dockerResources()
	var names []string
	var attach, del time.Duration
	first, err := h.Create(parent+"/first", r) // the parents are there in an engine that runs
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		g, err := h.Create(parent+"/"+strconv.Itoa(len(names)), r)
		if err != nil {
			b.Fatal(err)
		}
		names = append(names, g.path)
		at := time.Now()
		tasks, into, err := g.AttachFDs()
		if err != nil {
			b.Fatal(err)
		}
		closeAll(tasks)
		unix.Close(into)
		attach += time.Since(at)
		at = time.Now()
		if err := g.Delete(b.Context()); err != nil {
			b.Fatal(err)
		}
		del += time.Since(at)
	}
	b.ReportMetric(float64(attach.Microseconds())/float64(b.N), "µs-attach/op")
	b.ReportMetric(float64(del.Microseconds())/float64(b.N), "µs-delete/op")
	if err := first.Delete(b.Context()); err != nil {
		b.Error(err)
	}
	for _, m := range h.all() {
		_ = m.rmdir(strings.TrimPrefix(parent, "/"))
	}
}

// dockerResources are what docker run --memory --cpus --pids-limit asks for.
func dockerResources() *specs.LinuxResources {

	period := uint64(100000)
	return &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: n(64 << 20), Swap: n(128 << 20)},
		CPU:     &specs.LinuxCPU{Quota: n(50000), Period: &period},
		Pids:    &specs.LinuxPids{Limit: n(100)},
		Devices: append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, DefaultDevices()...),
	}
}

func n(v int64) *int64 { return &v }

func TestMemoryLimitKills(t *testing.T) {
	h := detect(t)
	g := create(t, h, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(16 << 20), Swap: n(32 << 20)}})
	fd, err := g.OOMNotify()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// The shell doubles a variable until it is refused.
	out, err := output(t, g, "x=0123456789abcdef; while :; do x=$x$x; done")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %.200s", err, out)
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 2000); n != 1 || err != nil {
		t.Errorf("no event: %d, %v", n, err)
	}
	if kills, err := g.OOMKills(); kills != 1 || err != nil {
		t.Errorf("OOMKills() = %d, %v", kills, err)
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if m := s.Memory; m.Limit != 16<<20 || m.OOMKills != 1 || m.FailCount == 0 || m.MaxUsage < 8<<20 || len(m.Stat) < 10 {
		t.Errorf("%+v", m)
	}
}

func TestCPUQuota(t *testing.T) {
	h := detect(t)
	period := uint64(50000)
	g := create(t, h, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: n(2500), Period: &period}}) // less than a busy machine leaves it
	background(t, g, "echo ready; while :; do :; done")
	before, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	time.Sleep(700 * time.Millisecond)
	after, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	share := float64(after.CPU.Usage-before.CPU.Usage) / float64(time.Since(start))
	if share > 0.15 || share < 0.005 {
		t.Errorf("a quota of 5%% let %.1f%% run", 100*share)
	}
	if after.CPU.ThrottledPeriods == 0 || after.CPU.ThrottledTime == 0 {
		t.Errorf("not throttled: %+v", after.CPU)
	}
	// Twice as much, while it runs; then half of it, by a longer period.
	for _, q := range []struct {
		quota  int64
		period uint64
	}{{20000, 50000}, {10000, 100000}, {200000, 100000}, {5000, 50000}} {
		if err := g.Update(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &q.quota, Period: &q.period}}); err != nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestPidsLimit(t *testing.T) {
	h := detect(t)
	// With clone3 the test binary's own threads are born in the group too.
	g := create(t, h, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(16)}})
	out, _ := output(t, g, "i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 9 <&- >&- 2>&- & done; echo unlimited")
	if !strings.Contains(out, "fork") || strings.Contains(out, "unlimited") {
		t.Errorf("twenty forks with a limit of sixteen: %s", out)
	}
	s, err := g.Stats()
	if err != nil || s.Pids.Limit != 16 {
		t.Errorf("%+v, %v", s.Pids, err)
	}
}

// TestNoProcesses: a limit of 0 is one: what is in the group makes no process.
func TestNoProcesses(t *testing.T) {
	g := create(t, detect(t), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(0)}})
	if out, err := output(t, g, "sleep 9 <&- >&- 2>&- & echo unlimited"); strings.Contains(out, "unlimited") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestCpuset(t *testing.T) {
	h := detect(t)
	g := create(t, h, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0", Mems: "0"}})
	out, err := output(t, g, "grep Cpus_allowed_list /proc/self/status")
	if err != nil || strings.Fields(out)[1] != "0" {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := h.Create(g.Path()+"-bad", &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("cpu 4000: %v", err)
	}
	if _, err := h.Open(g.Path() + "-bad"); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("a refused group is still there: %v", err)
	}
}

func TestDevices(t *testing.T) {
	h := detect(t)
	r := dockerResources()
	g := create(t, h, &specs.LinuxResources{Devices: r.Devices})
	try := func(what, want string) {
		t.Helper()
		out, _ := output(t, g, "true "+what+" && echo yes")
		if got := strings.HasSuffix(out, "yes\n"); got != (want == "yes") {
			t.Errorf("%s: %q, want %s", what, out, want)
		}
	}
	dir := t.TempDir()
	try("< /dev/zero", "yes")
	try("< /dev/full", "yes")
	try("< /dev/kmsg", "no")
	try("&& mknod "+dir+"/a c 1 11", "yes") // to make is allowed, to open is not
	try("< "+dir+"/a", "no")

	// Live: kmsg is added, full and making are taken away.
	with := append([]specs.LinuxDeviceCgroup{}, r.Devices[:1]...)
	for _, d := range r.Devices[3:] {
		if *d.Major != 1 || *d.Minor != 7 {
			with = append(with, d)
		}
	}
	with = append(with, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(1), Minor: n(11), Access: "r"})
	if err := g.Update(&specs.LinuxResources{Devices: with}); err != nil {
		t.Fatal(err)
	}
	try("< /dev/zero", "yes")
	try("< /dev/kmsg", "yes")
	try("> /dev/kmsg", "no")
	try("< /dev/full", "no")
	try("&& mknod "+dir+"/b c 1 11", "no")

	if err := g.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}); err != nil {
		t.Fatal(err)
	}
	try("< /dev/full", "yes")
	try("&& mknod "+dir+"/b c 1 11", "yes")
}

// TestDeviceProgram shows the version 2 program at work on the unified
// hierarchy, where a v1 devices hierarchy would do the work otherwise.
func TestDeviceProgram(t *testing.T) {
	h := detect(t)
	if h.unified == nil {
		t.Skip("no unified hierarchy")
	}
	g := create(t, h, nil)
	set := func(fresh bool, rules ...specs.LinuxDeviceCgroup) {
		t.Helper()
		p, err := newDevicePolicy(rules)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.setDevicesV2(p, fresh); err != nil {
			t.Fatal(err)
		}
	}
	can := func(what string) bool {
		t.Helper()
		out, _ := output(t, g, "true "+what+" && echo yes")
		return strings.HasSuffix(out, "yes\n")
	}
	rule := func(allow bool, access string, numbers ...int64) specs.LinuxDeviceCgroup {
		d := specs.LinuxDeviceCgroup{Allow: allow, Access: access}
		if len(numbers) == 2 {
			d.Type, d.Major, d.Minor = "c", &numbers[0], &numbers[1]
		}
		return d
	}
	count := func() int {
		t.Helper()
		dir, err := h.unified.open(g.path, "", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(dir)
		fds, err := attached(dir)
		if err != nil {
			t.Fatal(err)
		}
		closeAll(fds)
		return len(fds)
	}
	null := rule(true, "rwm", 1, 3) // the shell of a background command needs it
	set(true, append(dockerResources().Devices, rule(false, "w", 1, 7))...)
	if !can("< /dev/zero") || can("< /dev/kmsg") || !can("< /dev/full") || can("> /dev/full") || count() != 1 {
		t.Error("first policy", count())
	}
	for range 70 { // more than a group can have programs
		set(false, rule(false, "rwm"), null, rule(true, "r", 1, 11))
		set(false, rule(false, "rwm"), null, rule(true, "r", 1, 11), rule(true, "w", 1, 7))
	}
	if can("< /dev/zero") || !can("< /dev/kmsg") || can("> /dev/kmsg") || can("< /dev/full") || !can("> /dev/full") || count() != 1 {
		t.Error("second policy", count())
	}
	set(false, rule(true, "rwm"))
	if !can("< /dev/zero") || !can("< /dev/kmsg") || count() != 0 {
		t.Error("no policy", count())
	}
}

// versions runs a test with every way to freeze and kill that this host offers.
func versions(t *testing.T, f func(t *testing.T, h *Host)) {
	h := detect(t)
	switch h.Version() {
	case V1:
		f(t, h)
		return
	default:
		t.Run("unified", func(t *testing.T) { f(t, h) })
		t.Run("unified without cgroup.kill", func(t *testing.T) {
			old := &Host{v1: h.v1, unified: h.unified, at: h.at}
			old.devices.fd = -1
			f(t, old)
		})
	}
	if h.Version() == Hybrid {
		t.Run("v1", func(t *testing.T) {
			only := &Host{v1: h.v1, at: h.at}
			only.devices.fd = -1
			f(t, only)
		})
	}
}

func TestFreeze(t *testing.T) {
	versions(t, func(t *testing.T, h *Host) {
		g := create(t, h, nil)
		background(t, g, "echo ready; while :; do :; done")
		usage := func() uint64 {
			s, err := g.Stats()
			if err != nil {
				t.Fatal(err)
			}
			return s.CPU.Usage
		}
		for range 2 { // twice: idempotent
			if err := g.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if f, err := g.Frozen(); !f || err != nil {
			t.Errorf("Frozen() = %v, %v", f, err)
		}
		a := usage()
		time.Sleep(100 * time.Millisecond)
		// v1 counts a task as frozen on its way to the scheduler.
		if b := usage(); b-a > uint64(2*time.Millisecond) {
			t.Errorf("a frozen group ran for %v", time.Duration(b-a))
		}
		for range 2 {
			if err := g.Thaw(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if f, err := g.Frozen(); f || err != nil {
			t.Errorf("Frozen() = %v, %v", f, err)
		}
		a = usage()
		need.Eventually(t, "a thawed group runs", func() bool { return usage() > a })
	})
}

func TestKill(t *testing.T) {
	versions(t, func(t *testing.T, h *Host) {
		g := create(t, h, nil)
		background(t, g, "trap '' TERM; (sleep 100 & sleep 100) & sleep 100 & echo ready; wait")
		below, err := h.Create(g.Path()+"/below", nil)
		if err != nil {
			t.Fatal(err)
		}
		background(t, below, "echo ready; read x; sleep 100")
		pids, err := g.Pids()
		if err != nil || len(pids) < 5 {
			t.Errorf("Pids() = %v, %v", pids, err)
		}
		if err := g.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), need.Patience(30*time.Second))
		defer cancel()
		if err := g.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		if pids, err := g.Pids(); err != nil || len(pids) != 0 {
			t.Errorf("after Kill: %v, %v", pids, err)
		}
		if err := g.Delete(ctx); err != nil {
			t.Error(err)
		}
		for what, err := range map[string]error{"Kill": g.Kill(ctx), "Delete": g.Delete(ctx)} {
			if err != nil {
				t.Errorf("%s of a group that is gone: %v", what, err)
			}
		}
		if err := g.Freeze(ctx); !errors.Is(err, errdefs.NotFound) {
			t.Errorf("Freeze of a group that is gone: %v", err)
		}
		if _, err := g.Frozen(); !errors.Is(err, errdefs.NotFound) {
			t.Errorf("Frozen of a group that is gone: %v", err)
		}
		if _, err := g.Stats(); !errors.Is(err, errdefs.NotFound) {
			t.Errorf("Stats of a group that is gone: %v", err)
		}
		if _, _, err := g.AttachFDs(); !errors.Is(err, errdefs.NotFound) {
			t.Errorf("AttachFDs of a group that is gone: %v", err)
		}
		if err := g.Update(dockerResources()); !errors.Is(err, errdefs.NotFound) {
			t.Errorf("Update of a group that is gone: %v", err)
		}
	})
}

// TestNotUnified: a runtime may make a group in the hierarchies of version 1 alone,
// where the host has both.
func TestNotUnified(t *testing.T) {
	h := detect(t)
	if h.Version() != Hybrid {
		t.Skip("not a hybrid host")
	}
	g := create(t, h, nil)
	cmd := background(t, g, "trap '' TERM; echo ready; while :; do :; done")
	if err := h.unified.write("", "cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if err := h.unified.rmdir(g.path); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Pids(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("Pids() = %v, %v", pids, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), need.Patience(30*time.Second))
	defer cancel()
	if err := g.Freeze(ctx); err != nil {
		t.Error(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("Frozen() = %v, %v", frozen, err)
	}
	if err := g.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Pids(); err != nil || len(pids) != 0 {
		t.Errorf("after Kill: %v, %v", pids, err)
	}
}

// TestV1Frozen: a task that a v1 freezer holds does not die of cgroup.kill.
func TestV1Frozen(t *testing.T) {
	h := detect(t)
	if h.Version() != Hybrid {
		t.Skip("not a hybrid host")
	}
	g := create(t, h, nil)
	background(t, g, "echo ready; while :; do :; done")
	if err := h.at["freezer"].write(g.path, "freezer.state", "FROZEN"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), need.Patience(30*time.Second))
	defer cancel()
	if err := g.Kill(ctx); err != nil {
		t.Error(err)
	}
}

func TestUpdateMemory(t *testing.T) {
	h := detect(t)
	g := create(t, h, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(64 << 20), Swap: n(64 << 20)}})
	for _, s := range []struct{ limit, swap int64 }{
		{128 << 20, 256 << 20}, {32 << 20, 32 << 20}, {256 << 20, 256 << 20}, {-1, -1}, {64 << 20, 128 << 20}, {-1, 0}, {16 << 20, 16 << 20},
	} {
		if err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &s.limit, Swap: &s.swap}}); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if s, err := g.Stats(); err != nil || s.Memory.Limit != 16<<20 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(64 << 20), Swap: n(32 << 20)}}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("swap below memory: %v", err)
	}
}

func TestFreezeCanceled(t *testing.T) {
	h := detect(t)
	g := create(t, h, nil)
	background(t, g, "echo ready; while :; do :; done")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Freeze(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	} else if err != nil {
		if f, _ := g.Frozen(); f {
			t.Error("a freeze that was given up left the group frozen")
		}
	}
	waiting, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if h.unified != nil {
		if err := g.waitEvents(waiting, "populated", "0"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waitEvents: %v", err)
		}
	}
}

func TestPaths(t *testing.T) {
	h := detect(t)
	for _, p := range []string{"", "/", ".", "/..", "a/../../b", "/a\nb", "../x"} {
		if _, err := h.Create(p, nil); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("Create(%q): %v", p, err)
		}
	}
}

// TestUnifiedController limits what only the unified hierarchy of a hybrid
// host has: it must be enabled on the way down first.
func TestUnifiedController(t *testing.T) {
	h := detect(t)
	m, ok := h.v2At("hugetlb")
	if !ok || h.Version() != Hybrid {
		t.Skip("no hugetlb controller in a unified hierarchy beside v1")
	}
	before, err := m.read("", "cgroup.subtree_control")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(before, "hugetlb") {
		t.Cleanup(func() { // runs after the group is gone
			if err := m.write("", "cgroup.subtree_control", "-hugetlb"); err != nil {
				t.Error(err)
			}
		})
	}
	sizes := h.pageSizes()
	if len(sizes) == 0 {
		t.Skip("no huge pages")
	}
	g := create(t, h, &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: sizes[0], Limit: 4 << 30}}})
	if v, err := m.read(g.path, "hugetlb."+sizes[0]+".max"); err != nil || number(v) != 4<<30 {
		t.Errorf("limit is %q, %v", v, err)
	}
	if s, err := g.Stats(); err != nil || len(s.Hugetlb) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestIOWeight: what Features says of weights is what a group has, also where the
// root has no such file.
func TestIOWeight(t *testing.T) {
	h := detect(t)
	g := create(t, h, nil)
	m, ok := h.v1At("blkio")
	want := !ok
	for _, file := range []string{"blkio.weight", "blkio.bfq.weight"} {
		want = want || m.has(g.path, file)
	}
	if got := h.Features().IOWeight; got != want {
		t.Fatalf("weights: %v, a group has them: %v", got, want)
	}
	if !want {
		t.Skip("the kernel has no scheduler that weighs")
	}
	if err := g.Update(&specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(300))}}); err != nil {
		t.Error(err)
	}
}

func TestIOThrottle(t *testing.T) {
	h := detect(t)
	if !h.Features().IOThrottle {
		t.Skip("no I/O limits")
	}
	file := path.Join(t.TempDir(), "x")
	var st unix.Stat_t
	if err := unix.Stat(path.Dir(file), &st); err != nil {
		t.Fatal(err)
	}
	major, minor := int64(unix.Major(st.Dev)), int64(unix.Minor(st.Dev))
	if _, err := os.Stat(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor)); err != nil {
		t.Skip("the temporary directory is not on a block device")
	}
	if _, err := os.Stat(fmt.Sprintf("/sys/dev/block/%d:%d/partition", major, minor)); err == nil {
		t.Skip("limits are for whole devices, not for partitions")
	}
	const rate = 4 << 20
	g := create(t, h, &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleWriteBpsDevice: []specs.LinuxThrottleDevice{
		{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: major, Minor: minor}, Rate: rate}}}})
	start := time.Now()
	if out, err := output(t, g, "dd if=/dev/zero of="+file+" bs=512k count=6 oflag=direct 2>&1"); err != nil {
		t.Skipf("no direct I/O: %v: %s", err, out)
	}
	if took := time.Since(start); took < 500*time.Millisecond { // 3 MiB at 4 MiB/s
		t.Errorf("3 MiB in %v with a limit of %d bytes per second", took, rate)
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var written uint64
	for _, e := range s.IO {
		if e.Op == "Write" && strings.HasPrefix(e.File, "io_service_bytes") || e.Op == "wbytes" {
			written += e.Value
		}
	}
	if written < 3<<20 {
		t.Errorf("written: %d; %+v", written, s.IO)
	}
}

// TestParallel makes and removes groups below one new parent at once.
func TestParallel(t *testing.T) {
	h := detect(t)
	t.Cleanup(func() {
		for _, m := range h.all() {
			_ = m.removeTree(strings.TrimPrefix(parent, "/") + "-p")
		}
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				g, err := h.Create(fmt.Sprintf("%s-p/%d-%d", parent, i, j), dockerResources())
				if err != nil {
					t.Error(err)
					return
				}
				if err := g.Delete(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestAdd moves a process that runs already.
func TestAdd(t *testing.T) {
	h := detect(t)
	g := create(t, h, nil)
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Pids(); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("Pids() = %v, %v", pids, err)
	}
	if err := g.Add(1 << 22); !errors.Is(err, errdefs.NotFound) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("a process that does not exist: %v", err)
	}
}
