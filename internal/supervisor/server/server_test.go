package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/need"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

func (e *env) logged(id string) (lines []string) {
	e.t.Helper()
	for m, err := range logs.Open(e.logPath(id), logs.ReadOptions{Tail: -1}) {
		if err != nil {
			e.t.Fatal(err)
		}
		lines = append(lines, m.Stream.String()+" "+string(m.Line))
	}
	return lines
}

func TestStartLogExit(t *testing.T) {
	e := inProcess(t, nil)
	id, s := e.start("echo out; echo err >&2; printf part; exit 3", nil)
	if s.Pid <= 0 || s.Pidfd == nil || s.Stdout == nil || s.Stderr == nil || s.Stdin != nil || s.Console != nil || s.StartedAt.IsZero() {
		t.Errorf("started: %+v", s)
	}
	x := e.events.exit(id, "")
	if x.Code != 3 || x.Signal != 0 || x.Pid != s.Pid || x.At.Before(s.StartedAt) {
		t.Errorf("exited: %+v", x)
	}
	got := e.logged(id)
	var out, err []string
	for _, l := range got {
		if strings.HasPrefix(l, "stderr") {
			err = append(err, l)
		} else {
			out = append(out, l)
		}
	}
	if !reflect.DeepEqual(out, []string{"stdout out\n", "stdout part"}) || !reflect.DeepEqual(err, []string{"stderr err\n"}) {
		t.Errorf("log: %q", got)
	}
	record := filepath.Join(e.root, "exits", id)
	if b, err := os.ReadFile(record); err != nil || !bytes.Contains(b, []byte(`"code":3`)) {
		t.Errorf("exit record %s, %v", b, err)
	}
	if err := e.client.Forget(t.Context(), &wire.Forget{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(record); err == nil {
		t.Error("the exit record was not forgotten")
	}
	// the same id may start again
	m := e.message("kill -TERM $$")
	m.ID, m.Log.Path = id, e.logPath(id)
	e.events.forget(id)
	again, startErr := e.client.Start(t.Context(), m)
	if startErr != nil {
		t.Fatal(startErr)
	}
	again.Close()
	if x := e.events.exit(id, ""); x.Code != 128+15 || x.Signal != 15 {
		t.Errorf("exited: %+v", x)
	}
}

func TestStartRefused(t *testing.T) {
	e := inProcess(t, nil)
	run := func(change func(*wire.Start)) error {
		m := e.message("sleep 100")
		change(m)
		s, err := e.client.Start(t.Context(), m)
		if err == nil {
			s.Close()
		}
		return err
	}
	before := openFiles(t)
	err := run(func(m *wire.Start) { m.Spec.Process.Args = []string{"no-such-program"} })
	if se, ok := errors.AsType[*supervisor.StartError](err); !ok || se.Code != 127 || !errors.Is(err, errdefs.Invalid) {
		t.Errorf("a program that is not there: %v", err)
	}
	if err := run(func(m *wire.Start) { m.ID = "../x" }); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("bad id: %v", err)
	}
	if err := run(func(m *wire.Start) { m.Spec = nil }); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("no spec: %v", err)
	}
	if err := run(func(m *wire.Start) { m.Filter = "sha256:none" }); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("filter: %v", err)
	}
	if err := run(func(m *wire.Start) { m.NetNS = 7 }); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("descriptor: %v", err)
	}
	if err := run(func(m *wire.Start) { m.Log.Path = "/no/such/dir/log" }); err == nil {
		t.Error("log path: no error")
	}
	if err := run(func(m *wire.Start) { m.Spec.Process.Args = []string{"panic"} }); err == nil {
		t.Error("panic: no error")
	}
	if n := openFiles(t); n != before {
		t.Errorf("%d descriptors, were %d", n, before)
	}
	id, _ := e.start("sleep 100", nil)
	if err := run(func(m *wire.Start) { m.ID = id }); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("twice: %v", err)
	}
	if err := e.client.Shutdown(t.Context()); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("shutdown: %v", err)
	}
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: "other", Signal: 9}); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("signal: %v", err)
	}
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 999}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("signal: %v", err)
	}
}

func TestPutFilter(t *testing.T) {
	e := inProcess(t, nil)
	err := e.client.PutFilter(t.Context(), &wire.PutFilter{Digest: "sha256:00", Code: make([]byte, 8)})
	if !errors.Is(err, errdefs.DataLoss) {
		t.Errorf("a filter with another digest: %v", err)
	}
}

// demux splits stdcopy frames.
func demux(t *testing.T, r io.Reader) (out, err string) {
	t.Helper()
	var b [3]strings.Builder
	for {
		var h [8]byte
		if _, e := io.ReadFull(r, h[:]); e == io.EOF {
			return b[1].String(), b[2].String()
		} else if e != nil {
			t.Fatal(e)
		}
		if _, e := io.CopyN(&b[h[0]], r, int64(binary.BigEndian.Uint32(h[4:]))); e != nil {
			t.Fatal(e)
		}
	}
}

func attachAll(m *wire.Start) {
	m.Attach = []wire.Attach{{Stream: 1, Stdin: true, Stdout: true, Stderr: true}}
}

func TestAttachBeforeStart(t *testing.T) {
	e := inProcess(t, nil)
	client, stream := pair(t)
	id, s := e.start("cat; echo err >&2", func(m *wire.Start) {
		attachAll(m)
		m.Attach[0].Early = []byte("early ")
		m.Stdio = wire.Stdio{Stdin: true, StdinOnce: true}
	}, stream)
	stream.Close()
	if s.Stdin != nil {
		t.Error("a duplicate of stdin would keep it open")
	}
	big := strings.Repeat("0123456789", 50000)
	go func() {
		_, _ = io.WriteString(client, big)
		halfClose(t, client)
	}()
	out, err := demux(t, client)
	if out != "early "+big || err != "err\n" {
		t.Errorf("%d bytes of output, stderr %q", len(out), err)
	}
	if x := e.events.exit(id, ""); x.Code != 0 {
		t.Errorf("exit: %+v", x)
	}
}

// TestAttachStays checks that without StdinOnce the end of a client's input
// ends its stream only, and that the next client can go on.
func TestAttachStays(t *testing.T) {
	e := inProcess(t, nil)
	id, s := e.start("read a; read b; echo $a $b; exit 5", func(m *wire.Start) { m.Stdio.Stdin = true })
	if s.Stdin == nil {
		t.Error("no duplicate of stdin")
	}
	attach := func() *os.File {
		client, stream := pair(t)
		if err := e.client.Attach(t.Context(), &wire.Attach{ID: id, Stdin: true, Stdout: true, Raw: true}, stream); err != nil {
			t.Fatal(err)
		}
		stream.Close()
		return client
	}
	first := attach()
	fmt.Fprintln(first, "one")
	halfClose(t, first)
	if b, err := io.ReadAll(first); err != nil || len(b) > 0 {
		t.Errorf("what the first client got: %q, %v", b, err)
	}
	gone := attach()
	gone.Close()
	third, watcher := attach(), attach()
	fmt.Fprintln(third, "two")
	for _, c := range []*os.File{third, watcher} {
		if b, err := io.ReadAll(c); err != nil || string(b) != "one two\n" {
			t.Errorf("output %q, %v", b, err)
		}
	}
	if x := e.events.exit(id, ""); x.Code != 5 {
		t.Errorf("exit %+v, want code 5", x)
	}
	if err := e.client.Attach(t.Context(), &wire.Attach{ID: id}, os.Stdin); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("attach after the end: %v", err)
	}
}

// TestUnreadInput checks that input that nobody reads costs the client none of
// the output: no reset, and no hanging.
func TestUnreadInput(t *testing.T) {
	e := inProcess(t, nil)
	client, stream := pair(t)
	id, _ := e.start("read x; echo done", func(m *wire.Start) {
		attachAll(m)
		m.Stdio = wire.Stdio{Stdin: true, StdinOnce: true}
	}, stream)
	stream.Close()
	wrote := make(chan error)
	go func() {
		_, err := client.Write([]byte("x\n" + strings.Repeat("y", 1<<20)))
		wrote <- err
	}()
	e.events.exit(id, "")
	if out, _ := demux(t, client); out != "done\n" {
		t.Errorf("output %q", out)
	}
	<-wrote
}

func TestTerminal(t *testing.T) {
	e := inProcess(t, nil)
	client, stream := pair(t)
	id, s := e.start("stty -echo; echo ready; read x; stty size; echo $x; read y; echo got $y", func(m *wire.Start) {
		m.Spec.Process.Terminal = true
		m.Stdio = wire.Stdio{Stdin: true, StdinOnce: true}
		attachAll(m)
		m.Attach[0].DetachKeys = []byte{16, 17}
	}, stream)
	stream.Close()
	if s.Console == nil || s.Stdout != nil {
		t.Errorf("streams of a terminal: %+v", s)
	}
	if err := e.client.Resize(t.Context(), &wire.Resize{ID: id, Rows: 33, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	var got string
	until := func(end string) {
		t.Helper()
		b := make([]byte, 4096)
		for !strings.HasSuffix(got, end) {
			n, err := client.Read(b)
			if err != nil {
				t.Fatalf("output %q, %v", got, err)
			}
			got += string(b[:n])
		}
	}
	until("ready\r\n")
	fmt.Fprint(client, "a\x10") // the begin of the detach keys, but no more
	fmt.Fprint(client, "b\n")
	until("33 77\r\na\x10b\r\n")
	fmt.Fprint(client, "\x10")
	fmt.Fprint(client, "\x11never seen\n")
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Errorf("after detaching: %q, %v", rest, err)
	}
	client.Close()
	again, stream2 := pair(t)
	if err := e.client.Attach(t.Context(), &wire.Attach{ID: id, Stdin: true, Stdout: true}, stream2); err != nil {
		t.Fatal(err)
	}
	stream2.Close()
	fmt.Fprintln(again, "end")
	if rest, err := io.ReadAll(again); err != nil || string(rest) != "got end\r\n" {
		t.Errorf("output %q, %v", rest, err)
	}
	if x := e.events.exit(id, ""); x.Code != 0 {
		t.Errorf("exit %+v, want code 0", x)
	}
}

// TestTerminalReopened checks that output is not lost when every slave side
// was closed for a while, as systemd does.
func TestTerminalReopened(t *testing.T) {
	e := inProcess(t, nil)
	id, _ := e.start(`t=$(tty); echo one; exec </dev/null >/dev/null 2>&1; sleep 0.2; echo two >$t; sleep 0.2; echo three >$t`, func(m *wire.Start) {
		m.Spec.Process.Terminal = true
	})
	e.events.exit(id, "")
	if got := e.logged(id); !reflect.DeepEqual(got, []string{"stdout one\r\n", "stdout two\r\n", "stdout three\r\n"}) {
		t.Errorf("output %q", got)
	}
}

func TestBackPressure(t *testing.T) {
	const size = 30 << 20
	e := inProcess(t, func(o *Options) { o.MaxQueue = 256 << 10 })
	slow, stream := pair(t)
	id, _ := e.start(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo end >&2", size), func(m *wire.Start) {
		m.Attach = []wire.Attach{{Stream: 1, Stdout: true, Stderr: true}}
		m.Log = wire.Log{Driver: "none"}
	}, stream)
	stream.Close()
	other, _ := e.start("echo works", nil)
	e.events.exit(other, "")
	longest := make(chan int)
	queue := func() int {
		e.s.poll.post(func() {
			n := 0
			for _, st := range e.s.containers[id].init.streams {
				n = max(n, len(st.queue))
			}
			longest <- n
		})
		return <-longest
	}
	need.Eventually(t, "the queue is full", func() bool { return queue() > 256<<10 })
	if n := queue(); n > 512<<10 {
		t.Errorf("%d bytes are queued", n)
	}
	if e.events.has(id, "") {
		t.Error("ended though nobody reads")
	}
	out, err := demux(t, slow)
	if len(out) != size || err != "end\n" {
		t.Errorf("%d bytes, stderr %q", len(out), err)
	}
	e.events.exit(id, "")
}

// TestStdinBlocked checks that a process that does not read its input stops
// its client, not the loop.
func TestStdinBlocked(t *testing.T) {
	e := inProcess(t, nil)
	client, stream := pair(t)
	id, _ := e.start("sleep 0.5; wc -c", func(m *wire.Start) {
		attachAll(m)
		m.Stdio = wire.Stdio{Stdin: true, StdinOnce: true}
	}, stream)
	stream.Close()
	go func() {
		_, _ = client.Write(make([]byte, 3<<20))
		halfClose(t, client)
	}()
	other, _ := e.start("true", nil)
	e.events.exit(other, "")
	if e.events.has(id, "") {
		t.Error("the other did not run meanwhile")
	}
	if out, _ := demux(t, client); strings.TrimSpace(out) != fmt.Sprint(3<<20) {
		t.Errorf("output %q", out)
	}
}

func TestClientLeaves(t *testing.T) {
	e := inProcess(t, nil)
	client, stream := pair(t)
	id, _ := e.start("for i in $(seq 2000); do echo line $i; done; sleep 0.1; echo end", func(m *wire.Start) {
		m.Attach = []wire.Attach{{Stream: 1, Stdout: true}}
	}, stream)
	stream.Close()
	client.Close()
	e.events.exit(id, "")
	if got := e.logged(id); len(got) != 2001 || got[2000] != "stdout end\n" {
		t.Errorf("%d lines", len(got))
	}
}

func (e *env) exec(id, exec, script string, change func(*wire.Exec), files ...*os.File) (*supervisor.Started, error) {
	m := &wire.Exec{ID: id, ExecID: exec, Process: &specs.Process{Args: []string{"sh", "-c", script}}}
	if change != nil {
		change(m)
	}
	s, err := e.client.Exec(e.t.Context(), m, files...)
	if err == nil {
		e.t.Cleanup(s.Close)
	}
	return s, err
}

func TestExec(t *testing.T) {
	e := inProcess(t, nil)
	id, _ := e.start("exec sleep 1000", nil)
	client, stream := pair(t)
	if _, err := e.exec(id, "e1", "cat; echo err >&2; exit 9", func(m *wire.Exec) {
		m.Stdio = wire.Stdio{Stdin: true, Stdout: true, Stderr: true}
		m.Attach = []wire.Attach{{Stream: 1, Stdin: true, Stdout: true, Stderr: true}}
	}, stream); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	fmt.Fprint(client, "input")
	halfClose(t, client)
	if out, err := demux(t, client); out != "input" || err != "err\n" {
		t.Errorf("output %q %q", out, err)
	}
	if x := e.events.exit(id, "e1"); x.Code != 9 {
		t.Errorf("exit %+v, want code 9", x)
	}
	_, err := e.exec(id, "e2", "", func(m *wire.Exec) { m.Process.Args = []string{"no-such-program"} })
	if se, ok := errors.AsType[*supervisor.StartError](err); !ok || se.Code != 127 {
		t.Errorf("exec of a program that is not there: %v, want code 127", err)
	}
	s, err := e.exec(id, "e3", "exec sleep 1000", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.exec(id, "e3", "true", nil); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("an exec with an id that another has: %v, want a conflict", err)
	}
	// What it leaves behind holds its output open; that must not keep its end.
	if _, err := e.exec(id, "e4", "sleep 3 & echo started", func(m *wire.Exec) { m.Stdio.Stdout = true }); err != nil {
		t.Fatal(err)
	}
	if x := e.events.exit(id, "e4"); x.Code != 0 || time.Since(x.At) > 2*time.Second {
		t.Errorf("exit %+v, want code 0", x)
	}
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 15}); err != nil {
		t.Fatal(err)
	}
	if x := e.events.exit(id, ""); x.Code != 143 {
		t.Errorf("exit %+v, want code 143", x)
	}
	if x := e.events.exit(id, "e3"); x.Code != 137 || x.Pid != s.Pid { // no process namespace: the server ends it
		t.Errorf("%+v", x)
	}
	if _, err := e.exec(id, "e5", "true", nil); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("exec after the end: %v, want not found", err)
	}
}

func TestReconnect(t *testing.T) {
	e := inProcess(t, nil)
	short, _ := e.start("sleep 0.2; echo alone; exit 4", nil)
	long, s := e.start("exec sleep 1000", nil)
	if _, err := e.exec(long, "e1", "exec sleep 1000", nil); err != nil {
		t.Fatal(err)
	}
	// the daemon goes away while a start is under way
	unanswered := e.message("exec sleep 1000")
	fd, err := wire.Dial(e.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	for i, msg := range []any{wire.Hello{Version: wire.Version}, unanswered} {
		p, err := wire.NewPacket(uint32(i+1), msg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Send(fd, 0); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			f, err := wire.Receive(fd, make([]byte, wire.PacketLen), 0)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	unix.Close(fd)
	e.client.Close()
	record := filepath.Join(e.root, "exits", short)
	need.Eventually(t, "the exit record is there", func() bool { _, err := os.Stat(record); return err == nil })
	e.connect(supervisor.Options{})
	if len(e.hello.Exits) != 1 || e.hello.Exits[0].ID != short || e.hello.Exits[0].Code != 4 {
		t.Errorf("exits %+v", e.hello.Exits)
	}
	live := map[key]int{}
	for _, l := range e.hello.Containers {
		live[key{l.ID, l.ExecID}] = l.Pid
	}
	if len(live) != 3 || live[key{long, ""}] != s.Pid || live[key{long, "e1"}] == 0 || live[key{unanswered.ID, ""}] == 0 {
		t.Errorf("live %+v", live)
	}
	if got := e.logged(short); !reflect.DeepEqual(got, []string{"stdout alone\n"}) {
		t.Errorf("output %q", got)
	}
	d, err := e.client.Duplicate(t.Context(), long, "")
	if err != nil || d.Pid != s.Pid || d.Pidfd == nil || d.Stdout == nil {
		t.Errorf("duplicate: %+v, %v", d, err)
	}
	d.Close()
}

func TestSecondServer(t *testing.T) {
	e := inProcess(t, nil)
	if _, err := New(Options{Root: e.root, Launcher: plain{}}); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("a second server on the root: %v, want a conflict", err)
	}
	if id, _ := e.start("true", nil); e.events.exit(id, "").Code != 0 {
		t.Error("the first server is disturbed")
	}
}

// TestLongRoot: a socket's path has 107 bytes at most.
func TestLongRoot(t *testing.T) {
	e := inProcess(t, func(o *Options) {
		o.Root = filepath.Join(o.Root, strings.Repeat("long", 40))
		if err := os.Mkdir(o.Root, 0o700); err != nil {
			t.Fatal(err)
		}
	})
	if id, _ := e.start("true", nil); e.events.exit(id, "").Code != 0 {
		t.Error("a container below a long root did not end with code 0")
	}
}

func TestLogRotationUnderLoad(t *testing.T) {
	e := inProcess(t, nil)
	const n = 30000
	id, _ := e.start(fmt.Sprintf("seq %d", n), func(m *wire.Start) {
		m.Log.MaxSize, m.Log.MaxFile = 50<<10, 1000
	})
	e.events.exit(id, "")
	got := e.logged(id)
	if len(got) != n {
		t.Fatalf("%d lines", len(got))
	}
	for i, l := range got {
		if l != fmt.Sprintf("stdout %d\n", i+1) {
			t.Fatalf("line %d is %q", i, l)
		}
	}
	if _, err := os.Stat(e.logPath(id) + ".5"); err != nil {
		t.Error(err)
	}
}

// TestManyExits starts and ends many processes, by several callers, and checks
// that each end is told once and nothing is kept.
func TestManyExits(t *testing.T) {
	n := 10000
	if testing.Short() || os.Getenv("LADE_TEST_REQUIRE") == "" {
		n = 1000
	}
	e := inProcess(t, nil)
	e.start("exec sleep 1000", nil)
	before := openFiles(t)
	const callers = 8
	failed := make(chan error, callers)
	for range callers {
		go func() {
			for range n / callers {
				m := e.message("")
				m.Spec.Process.Args = []string{"true"}
				m.Log = wire.Log{Driver: "none"}
				s, err := e.client.Start(t.Context(), m)
				if err != nil {
					failed <- err
					return
				}
				s.Close()
			}
			failed <- nil
		}()
	}
	for range callers {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	e.events.until("all ends", func() bool { return e.events.n >= n })
	if len(e.events.got) != n || e.events.n != n {
		t.Errorf("%d ends of %d containers", e.events.n, len(e.events.got))
	}
	need.Eventually(t, "no descriptor is left", func() bool { return openFiles(t) <= before })
	for k, x := range e.events.got {
		if x.Code != 0 {
			t.Errorf("exit %+v, want code 0", x)
		}
		if err := e.client.Forget(t.Context(), &wire.Forget{ID: k.id}); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := os.ReadDir(filepath.Join(e.root, "exits")); err != nil || len(d) > 0 {
		t.Errorf("%d records, %v", len(d), err)
	}
}

// TestSlowDaemon checks that answers wait for a daemon that does not read, and
// descriptors with them.
func TestSlowDaemon(t *testing.T) {
	e := inProcess(t, nil)
	id, s := e.start("exec sleep 1000", nil)
	fd, err := wire.Dial(e.root)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	const n = 2000
	send := func(request uint32, msg any) {
		p, err := wire.NewPacket(request, msg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Send(fd, 0); err != nil {
			t.Fatal(err)
		}
	}
	send(1, wire.Hello{Version: wire.Version})
	for i := range n {
		send(uint32(i+2), wire.Duplicate{ID: id})
	}
	e.start("true", nil) // the loop goes on
	buf := make([]byte, wire.PacketLen)
	for answers := 0; answers < n+1; {
		f, err := wire.Receive(fd, buf, 0)
		if err != nil {
			t.Fatal(err)
		}
		if f.Request == 0 {
			f.Close()
			continue
		}
		answers++
		if f.Type == wire.TypeStarted {
			var m wire.Started
			if err := f.Decode(&m); err != nil || m.Pid != s.Pid {
				t.Fatalf("started: %+v, %v", m, err)
			}
			pidfd, err := f.File(m.Pidfd)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
				t.Fatal(err)
			}
			unix.Close(pidfd)
		}
		f.Close()
	}
}

func TestBadFrames(t *testing.T) {
	e := inProcess(t, nil)
	for _, packet := range [][]byte{nil, []byte("x"), []byte("lade\x01\x00\x03\x00\x01\x00\x00\x00\x02\x00\x00\x00{}"), bytes.Repeat([]byte("z"), 1000)} {
		fd, err := wire.Dial(e.root)
		if err != nil {
			t.Fatal(err)
		}
		if len(packet) > 0 {
			if err := unix.Sendmsg(fd, packet, nil, nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		unix.Close(fd)
	}
	if id, _ := e.start("true", nil); e.events.exit(id, "").Code != 0 {
		t.Error("the server is disturbed")
	}
}

// BenchmarkStarted is the start of a plain process, by request; the overhead
// is what it costs without the fork and the exec.
func BenchmarkStarted(b *testing.B) {
	e := inProcess(b, nil)
	var over []time.Duration
	for b.Loop() {
		m := e.message("")
		m.Spec.Process.Args = []string{"true"}
		m.Log = wire.Log{Driver: "none"}
		began := time.Now()
		s, err := e.client.Start(b.Context(), m)
		if err != nil {
			b.Fatal(err)
		}
		over = append(over, time.Since(began)-s.Prepare-s.Program)
		b.StopTimer()
		s.Close()
		e.events.exit(m.ID, "")
		b.StartTimer()
	}
	slices.Sort(over)
	b.ReportMetric(float64(over[len(over)/2].Microseconds()), "overhead-p50-µs")
}

// BenchmarkRequest is what a request costs without its work.
func BenchmarkRequest(b *testing.B) {
	e := inProcess(b, nil)
	for b.Loop() {
		if err := e.client.Forget(b.Context(), &wire.Forget{ID: "x"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOutput is how fast output reaches the log and an attached client.
func BenchmarkOutput(b *testing.B) {
	e := inProcess(b, nil)
	client, stream := pair(b)
	e.start("while :; do cat /proc/self/maps /proc/self/maps /proc/self/maps /proc/self/maps; done", func(m *wire.Start) {
		m.Attach = []wire.Attach{{Stream: 1, Stdout: true}}
		m.Log.MaxSize = 10 << 20
		m.Spec.Process.Args = []string{"yes", "a line of output as a program may print it, about eighty bytes"}
	}, stream)
	stream.Close()
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := io.ReadFull(client, buf); err != nil {
			b.Fatal(err)
		}
	}
}
