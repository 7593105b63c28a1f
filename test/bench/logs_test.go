package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/logs"
	"lade/internal/need"
	"lade/test/harness"
)

// logBytes is how much a container prints here; the promise is of 1 GB, which
// takes the same time for each byte.
const logBytes = 256 << 20

// printing prints DIR/lines, and leaves two files in DIR whose times say when it
// began and ended: that is how long the writer takes, without what a container's
// start and end take.
const printing = "cd %s; $0 touch begin; $0 cat lines; $0 touch end"

// spent is what printing took: the writer's time, and the processor time of who
// reads what it writes.
type spent struct{ wall, processor time.Duration }

// best keeps the less of each.
func (s *spent) best(other spent) {
	if s.wall == 0 {
		*s = other
	}
	s.wall, s.processor = min(s.wall, other.wall), min(s.processor, other.processor)
}

// printed returns how long printing took.
func printed(t *testing.T, dir string) time.Duration {
	t.Helper()
	var at [2]time.Time
	for i, name := range []string{"begin", "end"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err == nil {
			err = os.Remove(filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
		at[i] = st.ModTime()
	}
	return at[1].Sub(at[0])
}

// TestLogs measures the way of a container's output: into its log, out of it,
// and to a client that follows.
func TestLogs(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	dir := filepath.Join(e.Dir, "print")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lines := filepath.Join(dir, "lines")
	line := strings.Repeat("a plain line of text", 4)[:79] + "\n"
	if err := os.WriteFile(lines, []byte(strings.Repeat(line, logBytes/len(line))), 0o644); err != nil {
		t.Fatal(err)
	}
	rate := func(took time.Duration) float64 { return logBytes / 1e6 / took.Seconds() }
	sup := 0
	write := func(options ...string) spent {
		t.Helper()
		if sup == 0 {
			sup = e.Supervisor()
		}
		used := cpu(t, sup)
		args := append([]string{"run", "-d", "-v", dir + ":/print"}, options...)
		id := e.Run(append(args, image, "/bin/sh", "-c", fmt.Sprintf(printing, "/print"), "/bin/busybox")...)
		e.Run("wait", id)
		took := spent{processor: time.Duration((cpu(t, sup) - used) * 1e6)}
		e.Run("rm", id)
		took.wall = printed(t, dir)
		return took
	}
	say := func(what string, s spent) {
		t.Helper()
		note(t, what, rate(s.wall), "MB/s")
		note(t, "  by its processor time", rate(s.processor), "MB/s")
	}
	// By turns, the best of each: the first that fills pages of a virtual machine
	// pays for them.
	var plain, least, kept spent
	for range 4 {
		plain.best(copyOutput(t, dir))
		least.best(copyLike(t, dir, len(line)))
		kept.best(write("--log-opt", "max-size=-1"))
	}
	say("cat > file", plain)
	say("what reads, and writes as many bytes as json-file does", least)
	say("json-file", kept)
	note(t, "  of the processor time of cat > file", float64(kept.processor)/float64(plain.processor), "x")
	note(t, "  of the processor time of what reads and writes", float64(kept.processor)/float64(least.processor), "x")
	slowest(t, "json-file: short lines", rate(kept.wall), 200, "MB/s")
	limit(t, "  slower than cat > file by", float64(kept.wall)/float64(plain.wall), 2, "x")
	local := write("--log-driver", "local", "--log-opt", "max-size=1g")
	say("local", local)
	slowest(t, "local: short lines", rate(local.wall), 200, "MB/s")
	say("json-file, rotated at 20 MB", write("--log-opt", "max-size=20m", "--log-opt", "max-file=5"))
	say("local, rotated at 20 MB and packed", write("--log-driver", "local"))

	id := e.Run("run", "-d", "-v", lines+":/lines:ro", "--log-opt", "max-size=-1", image, "/bin/busybox", "cat", "/lines")
	e.Run("wait", id)
	path := e.Run("inspect", "-f", "{{.LogPath}}", id)
	begin := time.Now()
	for m, err := range logs.Open(path, logs.ReadOptions{Tail: -1}) {
		if err != nil || len(m.Line) != len(line) {
			t.Fatalf("%q, %v", m.Line, err)
		}
	}
	slowest(t, "logs: read back, without the API", rate(time.Since(begin)), 300, "MB/s")
	slowest(t, "logs: read back through the API, text", rate(readLogs(t, e, id)), 300, "MB/s")
	e.Run("rm", id)
	limit(t, "logs -f: from the container's write to the client, median", follow(t, e).median(), 5, "ms")
}

// copyOutput is what a log is compared with: cat copies what it reads from a pipe
// into a file.
func copyOutput(t *testing.T, dir string) spent {
	t.Helper()
	return printTo(t, dir, func(r, f *os.File) time.Duration {
		c := exec.Command(need.Program(t, "busybox", "Debian's busybox-static"), "cat")
		c.Stdin, c.Stdout = r, f
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		return c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	})
}

// copyLike is the least that a writer of logs can do that reads: it writes as many
// bytes as json-file would, without looking at what it has read.
func copyLike(t *testing.T, dir string, line int) spent {
	t.Helper()
	const record = `{"log":"\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}` + "\n"
	const piece = 256 << 10
	in := make([]byte, piece)
	out := bytes.Repeat([]byte{'x'}, piece*(line-1+len(record))/line)
	return printTo(t, dir, func(r, f *os.File) time.Duration {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		used := threadTime(t)
		if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 1<<20); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := unix.Read(int(r.Fd()), in)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				return threadTime(t) - used
			}
			if _, err := f.Write(out[:n*len(out)/piece]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// threadTime returns the processor time of the calling thread.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// printTo prints into a pipe, which read copies into a file. It returns read's
// processor time.
func printTo(t *testing.T, dir string, read func(r, f *os.File) time.Duration) (took spent) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", fmt.Sprintf(printing, dir), need.Program(t, "busybox", "Debian's busybox-static"))
	c.Stdout = w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	took.processor = read(r, f)
	if err := errors.Join(c.Wait(), r.Close(), f.Close(), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	took.wall = printed(t, dir)
	return took
}

// slowest fails the test when a figure is under its promise.
func slowest(t *testing.T, what string, got, least float64, unit string) {
	t.Helper()
	limit(t, what+", of "+unit+" promised", least/got, 1, "x")
	note(t, "  that is", got, unit)
}

// readLogs reads a container's log as a client does that throws it away.
func readLogs(t *testing.T, e *harness.Engine, id string) time.Duration {
	t.Helper()
	begin := time.Now()
	c, err := net.Dial("unix", e.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /containers/%s/logs?stdout=1&stderr=1 HTTP/1.0\r\n\r\n", id)
	if n, err := io.Copy(io.Discard, c); err != nil || n < logBytes*9/10 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	return time.Since(begin)
}

// follow measures how long a line takes from a container to a client.
func follow(t *testing.T, e *harness.Engine) (d times) {
	t.Helper()
	e.Run("run", "-d", "-i", "--name", "echo", image, "/bin/busybox", "cat")
	in := e.Command("lade", "attach", "--sig-proxy=false", "echo")
	stdin, err := in.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := e.Command("lade", "logs", "-f", "echo")
	stdout, err := out.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*exec.Cmd{in, out} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReader(stdout)
	for i := range 100 {
		begin := time.Now()
		word := fmt.Appendf(nil, "%d\n", i)
		if _, err := stdin.Write(word); err != nil {
			t.Fatal(err)
		}
		got, err := r.ReadBytes('\n')
		if err != nil || !bytes.Equal(got, word) {
			t.Fatalf("%q, %v", got, err)
		}
		if i >= 10 {
			d = append(d, time.Since(begin))
		}
	}
	e.Run("rm", "-f", "echo")
	stdin.Close()
	_, _ = in.Wait(), out.Wait() // the container is gone
	return d
}

// TestHealthChecks measures what the checks of 100 containers cost both
// daemons, and compares with 5 % of a processor for 1,000 checks in 30 s.
func TestHealthChecks(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	const n = 100
	for i := range n {
		e.Run("run", "-d", "--name", fmt.Sprint("hc", i), "--health-cmd", "true", "--health-interval", "3s", image, "sleep", "1000")
	}
	bare := measure(t, 200, func() error { return exec.Command("/bin/true").Run() })
	note(t, "vfork and exec of /bin/true", bare.median(), "ms")
	time.Sleep(2 * time.Second)
	sup := e.Supervisor()
	before, beforeSup := cpu(t, e.Pid()), cpu(t, sup)
	const seconds = 9
	time.Sleep(seconds * time.Second)
	each := func(ms float64) float64 { return ms / (n * seconds / 3) }
	ours, theirs := each(cpu(t, e.Pid())-before), each(cpu(t, sup)-beforeSup)
	note(t, "processor time of laded for a health check", ours, "ms")
	note(t, "processor time of the supervisor for a health check", theirs, "ms")
	spent := ours + theirs
	limit(t, "1,000 health checks each 30 s", spent*1000/30/10, 5, "%")
	if got := strings.Count(e.Run("ps", "-q", "--filter", "health=healthy"), "\n") + 1; got != n {
		t.Errorf("%d containers are healthy", got)
	}
}
