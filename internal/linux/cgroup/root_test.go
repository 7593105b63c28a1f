package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
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
	t.Cleanup(func() {
		for _, m := range h.all() {
			unix.Close(m.dir)
		}
		if h.devices.fd >= 0 {
			unix.Close(h.devices.fd)
		}
	})
	return h
}

func create(t testing.TB, h *Host, r *specs.LinuxResources) *Group {
	t.Helper()
	g, err := h.Create(path.Join(parent, strings.ReplaceAll(t.Name(), "/", "-")), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := g.Kill(ctx); err != nil {
			t.Errorf("Kill: %v", err)
		}
		if err := g.Delete(ctx); err != nil {
			t.Errorf("Delete: %v", err)
		}
		for _, m := range h.all() {
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
	n := func(v int64) *int64 { return &v }
	period := uint64(100000)
	dev := func(typ, access string, major, minor int64) specs.LinuxDeviceCgroup {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: typ, Access: access}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		return d
	}
	return &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: n(64 << 20), Swap: n(128 << 20)},
		CPU:    &specs.LinuxCPU{Quota: n(50000), Period: &period},
		Pids:   &specs.LinuxPids{Limit: n(100)},
		Devices: []specs.LinuxDeviceCgroup{
			{Allow: false, Access: "rwm"},
			dev("c", "m", -1, -1), dev("b", "m", -1, -1),
			dev("c", "rwm", 1, 3), dev("c", "rwm", 1, 5), dev("c", "rwm", 1, 7), dev("c", "rwm", 1, 8), dev("c", "rwm", 1, 9),
			dev("c", "rwm", 5, 0), dev("c", "rwm", 5, 1), dev("c", "rwm", 5, 2), dev("c", "rwm", 136, -1),
		},
	}
}
