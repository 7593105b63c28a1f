package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/runtime"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// pss returns a process's proportional set size in bytes.
func pss(t testing.TB, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if kb, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kb), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no Pss")
	return 0
}

// TestMemoryPerContainer holds the promise of 20 kB per running container,
// with its pipes, its log and its records.
func TestMemoryPerContainer(t *testing.T) {
	plainBinary(t)
	const n, limit = 500, 20 << 10
	e := ownProcess(t, "plain")
	run := func(n int) (pids []int) {
		for range n {
			_, s := e.start("", func(m *wire.Start) {
				m.Spec.Process.Args = []string{"sleep", "1000"}
				m.Stdio.Stdin = true
			})
			pids = append(pids, s.Pid)
			s.Close()
		}
		return pids
	}
	settle := func() int {
		least := pss(t, e.hello.Pid)
		for range 15 { // memory is given back when all was quiet for trimAfter
			time.Sleep(trimAfter / 5)
			least = min(least, pss(t, e.hello.Pid))
		}
		return least
	}
	pids := run(20) // what the first of a kind cost is not the container's
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		e.events.until("all ends", func() bool { return e.events.n == len(pids) })
	})
	before := settle()
	pids = append(pids, run(n)...)
	after := settle()
	t.Logf("%d kB idle, %d kB with %d more: %d bytes each", before>>10, after>>10, n, (after-before)/n)
	if each := (after - before) / n; each > limit {
		t.Errorf("%d bytes per container, the limit is %d", each, limit)
	}
}

func TestIdleExit(t *testing.T) {
	e := ownProcess(t, "plain")
	pidfd, err := unix.PidfdOpen(e.hello.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	id, _ := e.start("exec sleep 1", nil)
	e.client.Close()
	wait := func(ms int) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, ms)
		return n > 0
	}
	if wait(700) { // longer than its IdleExit
		t.Fatal("ended while a container runs")
	}
	if !wait(10000) {
		t.Fatal("the server did not end after its last container")
	}
	// the next one knows how the container ended
	e.connect(supervisor.Options{Binary: "/proc/self/exe"})
	if len(e.hello.Exits) != 1 || e.hello.Exits[0].ID != id {
		t.Errorf("exits %+v", e.hello.Exits)
	}
	if err := e.client.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	e.events.until("the loss", func() bool { return e.events.lost != nil })
}

// TestLostSupervisor kills the supervisor and gives its containers to the next.
func TestLostSupervisor(t *testing.T) {
	e := ownProcess(t, "plain")
	script := "trap 'echo bye; exit 42' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
	id, s := e.start(script, nil)
	cat, in := e.start("read x; echo got $x; exit 7", func(m *wire.Start) { m.Stdio.Stdin = true })
	tty, con := e.start("read x; echo got $x; exit 8", func(m *wire.Start) { m.Spec.Process.Terminal = true; m.Stdio.Stdin = true })
	ended, gone := e.start("sleep 0.3; exit 9", nil)
	ex, err := e.exec(id, "e1", "exec sleep 1000", nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	_ = unix.Kill(e.hello.Pid, unix.SIGKILL)
	e.events.until("the loss", func() bool { return e.events.lost != nil })
	go func() { asked <- e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 1}) }()
	if err := <-asked; !errors.Is(err, errdefs.Unavailable) {
		t.Errorf("a request to the lost one: %v", err)
	}
	need.Eventually(t, "the short one has ended", func() bool { return !alive(gone.Pid) })
	if !alive(s.Pid) {
		t.Fatal("the container was lost, too")
	}
	old := e.hello.Pid
	e.connect(supervisor.Options{Binary: "/proc/self/exe"})
	if e.hello.Pid == old || len(e.hello.Containers) > 0 {
		t.Errorf("hello of the server: %+v", e.hello)
	}
	adopt := func(id string, s *supervisor.Started, change func(*wire.Adopt)) {
		m := &wire.Adopt{ID: id, Pid: s.Pid, StartedAt: s.StartedAt, Log: wire.Log{Driver: "json-file", Path: e.logPath(id)}}
		var files []*os.File
		for _, f := range []struct {
			from *os.File
			to   *wire.FD
		}{{s.Pidfd, &m.Pidfd}, {s.Console, &m.Console}, {s.Stdin, &m.Stdin}, {s.Stdout, &m.Stdout}, {s.Stderr, &m.Stderr}} {
			if f.from != nil {
				files = append(files, f.from)
				*f.to = wire.FD(len(files))
			}
		}
		if change != nil {
			change(m)
		}
		a, err := e.client.Adopt(t.Context(), m, files...)
		if err != nil {
			t.Fatal(err)
		}
		if a.Pid != s.Pid || a.Pidfd == nil || (a.Stdout == nil) != (s.Stdout == nil) {
			t.Errorf("adopted: %+v", a)
		}
		a.Close()
	}
	// exited waits for an end; the code may not be known.
	tells := need.TellsExits(t)
	exited := func(what, id, exec string, code int) {
		t.Helper()
		if x := e.events.exit(id, exec); x.Code != code && (tells || x.Code != -1) {
			t.Errorf("%s: %+v, want %d", what, x, code)
		}
	}
	adopt(id, s, nil)
	adopt(id, ex, func(m *wire.Adopt) { m.ExecID = "e1" })
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, ExecID: "e1", Signal: 10}); err != nil {
		t.Error(err)
	}
	exited("exec", id, "e1", 138)
	adopt(cat, in, func(m *wire.Adopt) { m.Stdio.Stdin = true })
	adopt(tty, con, func(m *wire.Adopt) { m.Stdio.Stdin = true; m.Terminal = true })
	adopt(ended, gone, nil)
	exited("ended meanwhile", ended, "", 9)
	for _, c := range []string{cat, tty} {
		client, stream := pair(t)
		if err := e.client.Attach(t.Context(), &wire.Attach{ID: c, Stdin: true, Stdout: true, Raw: true}, stream); err != nil {
			t.Fatal(err)
		}
		stream.Close()
		fmt.Fprintln(client, "input")
		if b, err := io.ReadAll(client); err != nil || !strings.Contains(string(b), "got input") {
			t.Errorf("output %q, %v", b, err)
		}
	}
	exited("cat", cat, "", 7)
	exited("terminal", tty, "", 8)
	lines := len(e.logged(id))
	need.Eventually(t, "the log grows", func() bool { return len(e.logged(id)) > lines+5 })
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 15}); err != nil {
		t.Fatal(err)
	}
	exited("exited", id, "", 42)
	got := e.logged(id)
	for i, l := range got[:len(got)-1] { // nothing was lost in between
		if l != fmt.Sprintf("stdout %d\n", i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
	if !reflect.DeepEqual(got[len(got)-1:], []string{"stdout bye\n"}) {
		t.Errorf("last line %q", got[len(got)-1])
	}
}

// TestUpgrade replaces the supervisor's program under running containers with
// clients, twice, and checks that nobody notices.
func TestUpgrade(t *testing.T) {
	e := ownProcess(t, "plain")
	counter, _ := e.start("trap 'exit 42' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done", nil)
	client, stream := pair(t)
	cat, _ := e.start("printf half; cat; exit 5", func(m *wire.Start) {
		attachAll(m)
		m.Attach[0].Raw = true
		m.Stdio = wire.Stdio{Stdin: true, StdinOnce: true}
	}, stream)
	stream.Close()
	ttyClient, ttyStream := pair(t)
	tty, _ := e.start("stty -echo; echo ready; read x; echo got $x; exit 6", func(m *wire.Start) {
		m.Spec.Process.Terminal = true
		m.Stdio.Stdin = true
		attachAll(m)
		m.Attach[0].DetachKeys = []byte{16, 17}
	}, ttyStream)
	ttyStream.Close()
	upgraded := filepath.Join(t.TempDir(), "upgraded") // the exec ends when it is there
	if _, err := e.exec(counter, "e1", "while [ ! -e "+upgraded+" ]; do sleep 0.05; done; exit 7", nil); err != nil {
		t.Fatal(err)
	}
	slow, slowStream := pair(t)
	const size = 600000 // queued at most, and its process ends
	gone, _ := e.start(fmt.Sprintf("head -c %d /dev/zero", size), func(m *wire.Start) {
		m.Attach = []wire.Attach{{Stream: 1, Stdout: true, Raw: true}}
		m.Log = wire.Log{Driver: "none"}
	}, slowStream)
	slowStream.Close()
	e.events.exit(gone, "")
	line := make([]byte, len("ready\r\n"))
	if _, err := io.ReadFull(ttyClient, line); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(ttyClient, "a\x10") // half of the detach keys
	fmt.Fprint(client, "one ")
	pid := e.hello.Pid
	for range 2 {
		bin, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		if err := e.client.Upgrade(t.Context(), bin); err != nil {
			t.Fatal(err)
		}
		bin.Close()
		e.connect(supervisor.Options{})
		if e.hello.Pid != pid || e.hello.Build != "upgraded" {
			t.Errorf("hello of the server: %+v", e.hello)
		}
	}
	if n := len(e.hello.Containers); n != 4 {
		t.Errorf("%d live: %+v", n, e.hello.Containers)
	}
	if err := os.WriteFile(upgraded, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(ttyClient, "b\n")
	if b, err := io.ReadAll(ttyClient); err != nil || string(b) != "got a\x10b\r\n" {
		t.Errorf("output %q, %v", b, err)
	}
	fmt.Fprint(client, "two")
	halfClose(t, client)
	if b, err := io.ReadAll(client); err != nil || string(b) != "halfone two" {
		t.Errorf("output %q, %v", b, err)
	}
	if b, err := io.ReadAll(slow); err != nil || len(b) != size {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	need.Eventually(t, "the exec's end", func() bool { return e.events.has(counter, "e1") })
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: counter, Signal: 15}); err != nil {
		t.Error(err)
	}
	for k, code := range map[key]int{{cat, ""}: 5, {tty, ""}: 6, {counter, ""}: 42} {
		if x := e.events.exit(k.id, k.exec); x.Code != code {
			t.Errorf("%+v, want %d", x, code)
		}
	}
	for i, l := range e.logged(counter) {
		if l != fmt.Sprintf("stdout %d\n", i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
	if got := e.logged(cat); !reflect.DeepEqual(got, []string{"stdout halfone two"}) {
		t.Errorf("output %q", got)
	}
	// One that cannot be executed changes nothing.
	id, _ := e.start("exec sleep 1000", nil)
	bad, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if err := e.client.Upgrade(t.Context(), bad); err == nil {
		t.Error("an upgrade to an empty file succeeded")
	}
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 9}); err != nil {
		t.Error(err)
	}
	if x := e.events.exit(id, ""); x.Code != 137 {
		t.Errorf("exit %+v, want code 137", x)
	}
}

// TestConnect checks who is started, by whom, and what is said when nobody can
// be.
func TestConnect(t *testing.T) {
	root := t.TempDir()
	try := func(ctx context.Context, binary string) (*supervisor.Client, wire.Welcome, error) {
		return supervisor.Connect(ctx, supervisor.Options{Root: root, Binary: binary})
	}
	if _, _, err := try(t.Context(), ""); !errors.Is(err, errdefs.Unavailable) {
		t.Errorf("none runs: %v", err)
	}
	script := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho it is broken >&2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := try(t.Context(), script); !errors.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("a broken one: %v", err)
	}
	mute := filepath.Join(t.TempDir(), "mute")
	if err := os.WriteFile(mute, []byte("#!/bin/sh\nexec sleep 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := try(ctx, mute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a mute one: %v", err)
	}
	// Several daemons at once get the same supervisor.
	t.Setenv(asSupervisor, "plain")
	pids, release := make(chan int), make(chan struct{})
	for range 5 {
		go func() {
			c, w, err := try(t.Context(), "/proc/self/exe")
			if err != nil {
				t.Error(err)
			} else {
				defer c.Close()
			}
			pids <- w.Pid
			<-release
		}()
	}
	first := <-pids
	for range 4 {
		if pid := <-pids; pid != first {
			t.Errorf("supervisors %d and %d", pid, first)
		}
	}
	close(release)
}

// TestContext checks that a context ends the waiting only.
func TestContext(t *testing.T) {
	slow := make(chan struct{})
	e := inProcess(t, func(o *Options) { o.Launcher = slowly{slow} })
	ctx, cancel := context.WithCancelCause(t.Context())
	m := e.message("exit 3")
	left := errors.New("left")
	time.AfterFunc(50*time.Millisecond, func() { cancel(left) })
	if _, err := e.client.Start(ctx, m); !errors.Is(err, left) {
		t.Errorf("start given up by its caller: %v", err)
	}
	close(slow)
	if x := e.events.exit(m.ID, ""); x.Code != 3 {
		t.Errorf("exit %+v, want code 3", x)
	}
}

// slowly is a plain Launcher that waits.
type slowly struct{ until chan struct{} }

func (slowly) Restock() {}
func (slowly) Trim()    {}

func (s slowly) Start(ctx context.Context, c *runtime.Container) (*runtime.Process, error) {
	<-s.until
	return plain{}.Start(ctx, c)
}

func (s slowly) Exec(ctx context.Context, e *runtime.Exec) (*runtime.Process, error) {
	return plain{}.Exec(ctx, e)
}
