package bench

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"lade/internal/need"
	"lade/test/harness"
)

// image holds Debian's busybox, as the peers were measured with: the built-in
// image's commands are Go programs, whose own start takes longer than lade's.
const image = "bench"

// limit fails the test when a figure is over its promise. The machine may be
// busy, so the promise is multiplied by LADE_BENCH_SLACK (default 1).
func limit(t *testing.T, what string, got, most float64, unit string) {
	t.Helper()
	slack, err := strconv.ParseFloat(os.Getenv("LADE_BENCH_SLACK"), 64)
	if err != nil {
		slack = 1
	}
	verdict := "ok"
	if got > most*slack {
		verdict = "OVER"
		t.Errorf("%s: %.2f %s, promised %.2f", what, got, unit, most)
	}
	t.Logf("%-58s %9.2f %-4s (promised %.2f) %s", what, got, unit, most, verdict)
}

// note prints a figure that nothing is promised of.
func note(t *testing.T, what string, got float64, unit string) {
	t.Helper()
	t.Logf("%-58s %9.2f %-4s", what, got, unit)
}

type times []time.Duration

func (d times) median() float64 {
	slices.Sort(d)
	return float64(d[len(d)/2]) / float64(time.Millisecond)
}

// measure runs f n times after a warm-up, and returns how long each took.
func measure(t *testing.T, n int, f func() error) times {
	t.Helper()
	var d times
	for i := range n + n/10 + 1 {
		begin := time.Now()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if i > n/10 {
			d = append(d, time.Since(begin))
		}
	}
	return d
}

// cpu returns the processor time that processes have used, in milliseconds.
func cpu(t *testing.T, pids ...int) float64 {
	t.Helper()
	var ticks float64
	for _, pid := range pids {
		tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/schedstat"))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			raw, err := os.ReadFile(task)
			if err != nil {
				continue // the thread has ended
			}
			ns, err := strconv.ParseFloat(strings.Fields(string(raw))[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			ticks += ns / 1e6
		}
	}
	return ticks
}

// pss returns a process's proportional memory in kilobytes.
func pss(t *testing.T, pid int) float64 {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no Pss in smaps_rollup")
	return 0
}

// rootfs packs a root directory with busybox and returns the tar's name.
func rootfs(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(need.Program(t, "busybox", "Debian's busybox-static"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "rootfs.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	put := func(h tar.Header, body []byte) {
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/", "root/"} {
		put(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	put(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, raw)
	for _, link := range []string{"sh", "true", "sleep"} {
		put(tar.Header{Name: "bin/" + link, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	put(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

func connect(t *testing.T, e *harness.Engine) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + e.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// create makes a container of the built-in image.
func create(ctx context.Context, c *client.Client, cmd ...string) (string, error) {
	r, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config:     &container.Config{Image: image, Cmd: cmd},
		HostConfig: &container.HostConfig{Resources: container.Resources{Memory: 256 << 20, NanoCPUs: 1e9, PidsLimit: ptr(int64(100))}},
	})
	return r.ID, err
}

func ptr[T any](v T) *T { return &v }

func run(ctx context.Context, c *client.Client, parts map[string]*times, cmd ...string) error {
	lap := time.Now()
	mark := func(name string) {
		if parts != nil {
			if parts[name] == nil {
				parts[name] = &times{}
			}
			*parts[name] = append(*parts[name], time.Since(lap))
		}
		lap = time.Now()
	}
	id, err := create(ctx, c, cmd...)
	if err != nil {
		return err
	}
	mark("create")
	if _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return err
	}
	mark("start")
	w := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case err := <-w.Error:
		return err
	case <-w.Result:
	}
	mark("wait")
	_, err = c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{})
	mark("remove")
	return err
}

// TestSpecification measures and compares with the promises.
func TestSpecification(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	ctx := t.Context()
	bare := measure(t, 200, func() error { return exec.Command("/bin/true").Run() })
	unit := bare.median()
	note(t, "vfork and exec of /bin/true", unit, "ms")

	begin := time.Now()
	e := harness.Start(t)
	note(t, "daemon's first start, empty data root, to ready", float64(time.Since(begin))/1e6, "ms")
	e.Run("import", rootfs(t), image)
	e.Run("run", "--rm", image, "true")
	e.Stop()
	var starts times
	for range 5 {
		begin := time.Now()
		e.Launch()
		starts = append(starts, time.Since(begin))
		if len(starts) < 5 {
			e.Stop()
		}
	}
	limit(t, "laded: exec to ready", starts.median(), 50, "ms")

	c := connect(t, e)
	sup := e.Supervisor()
	parts := map[string]*times{}
	if err := run(ctx, c, nil, "true"); err != nil {
		t.Fatal(err)
	}
	const lives = 200
	before := cpu(t, e.Pid(), sup)
	life := measure(t, lives, func() error { return run(ctx, c, parts, "true") })
	spent := (cpu(t, e.Pid(), sup) - before) / (lives + lives/10 + 1)
	limit(t, "API create+start+wait+remove, median", life.median(), 8, "ms")
	note(t, "  as multiple of fork and exec", life.median()/unit, "x")
	for _, p := range []string{"create", "start", "wait", "remove"} {
		note(t, "  "+p, parts[p].median(), "ms")
	}
	limit(t, "  processor time of both daemons", spent, 5, "ms")

	limit(t, "lade: process start (version of the client)", measure(t, 50, func() error { return e.Command("lade", "--version").Run() }).median(), 10, "ms")
	limit(t, "lade run --rm IMAGE true", measure(t, 50, func() error { return e.Command("lade", "run", "--rm", image, "true").Run() }).median(), 20, "ms")
	id, err := create(ctx, c, "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	limit(t, "API exec create+start (attached, to the end)", measure(t, 100, func() error { return execTrue(ctx, c, id) }).median(), 3, "ms")
	if _, err := c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	memory(t, e, c, sup)
	parallel(t, c)
}

// TestSupervisorShare measures what of a start passes in the supervisor, from
// the request to the execve, as the daemon's debug log has it.
func TestSupervisorShare(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	ctx := t.Context()
	e := harness.Start(t, "--debug")
	e.Run("import", rootfs(t), image)
	c := connect(t, e)
	measure(t, 100, func() error { return run(ctx, c, nil, "true") })
	var took times
	for line := range strings.Lines(e.Log()) {
		if !strings.Contains(line, "msg=started ") {
			continue
		}
		var sum time.Duration
		for f := range strings.FieldsSeq(line) {
			for _, part := range []string{"prepare=", "program="} {
				if v, ok := strings.CutPrefix(f, part); ok {
					d, err := time.ParseDuration(v)
					if err != nil {
						t.Fatal(err)
					}
					sum += d
				}
			}
		}
		took = append(took, sum)
	}
	if len(took) < 100 {
		t.Fatalf("the log tells of %d starts", len(took))
	}
	limit(t, "supervisor: request to execve, median", took.median(), 2, "ms")
	note(t, "  a tenth of them took less than", float64(took[len(took)/10])/1e6, "ms")
}

func execTrue(ctx context.Context, c *client.Client, id string) error {
	x, err := c.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"true"}, AttachStdout: true})
	if err != nil {
		return err
	}
	a, err := c.ExecAttach(ctx, x.ID, client.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer a.Close()
	_, err = io.Copy(io.Discard, a.Reader)
	return err
}

// memory starts 100 containers by 8 clients at once, counts and measures, and
// removes them.
func memory(t *testing.T, e *harness.Engine, c *client.Client, sup int) {
	ctx := t.Context()
	time.Sleep(15 * time.Second) // idle: both give memory back then
	idle, idleSup := pss(t, e.Pid()), pss(t, sup)
	limit(t, "laded: PSS idle", idle/1024, 25, "MB")
	limit(t, "supervisor: PSS idle", idleSup/1024, 4, "MB")
	const n = 100
	ids := make([]string, n)
	begin := time.Now()
	inParallel(t, n, func(i int) error {
		id, err := create(ctx, c, "sleep", "1000")
		if err != nil {
			return err
		}
		ids[i] = id
		_, err = c.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	})
	started := time.Since(begin)
	note(t, "100 containers by 8 clients: created and started", n/started.Seconds(), "/s")
	limit(t, "  each (150 a second)", started.Seconds()*1000/n, 1000.0/150, "ms")
	limit(t, "laded: PSS with 100 containers", pss(t, e.Pid())/1024, 40, "MB")
	note(t, "supervisor: more PSS per container, busy", (pss(t, sup)-idleSup)/n, "kB")
	time.Sleep(5 * time.Second) // what starting took has been given back
	limit(t, "supervisor: more PSS per container", (pss(t, sup)-idleSup)/n, 20, "kB")
	begin = time.Now()
	inParallel(t, n, func(i int) error {
		_, err := c.ContainerRemove(ctx, ids[i], client.ContainerRemoveOptions{Force: true})
		return err
	})
	removed := time.Since(begin)
	note(t, "100 containers by 8 clients: removed", n/removed.Seconds(), "/s")
	limit(t, "  each (150 a second)", removed.Seconds()*1000/n, 1000.0/150, "ms")
}

// parallel lists 100 containers.
func parallel(t *testing.T, c *client.Client) {
	ctx := t.Context()
	ids := make([]string, 100)
	inParallel(t, len(ids), func(i int) (err error) { ids[i], err = create(ctx, c, "true"); return err })
	note(t, "API list of 100 containers", measure(t, 100, func() error {
		_, err := c.ContainerList(ctx, client.ContainerListOptions{All: true})
		return err
	}).median(), "ms")
	inParallel(t, len(ids), func(i int) error {
		_, err := c.ContainerRemove(ctx, ids[i], client.ContainerRemoveOptions{})
		return err
	})
}

// inParallel calls f(0…n-1) from eight goroutines.
func inParallel(t *testing.T, n int, f func(int) error) {
	t.Helper()
	work := make(chan int)
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				if err := f(i); err != nil {
					errs <- fmt.Errorf("%d: %w", i, err)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}
