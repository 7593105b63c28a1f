package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/logs"
	"lade/internal/need"
	"lade/test/harness"
)

// logBytes is how much a container prints here; the promise is of 1 GB, which
// takes the same time for each byte.
const logBytes = 256 << 20

// TestLogs measures the way of a container's output: into its log, out of it,
// and to a client that follows.
func TestLogs(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	lines := filepath.Join(e.Dir, "lines")
	line := strings.Repeat("a plain line of text", 4)[:79] + "\n"
	if err := os.WriteFile(lines, []byte(strings.Repeat(line, logBytes/len(line))), 0o644); err != nil {
		t.Fatal(err)
	}
	rate := func(took time.Duration) float64 { return logBytes / 1e6 / took.Seconds() }
	sup := 0
	write := func(options ...string) float64 {
		t.Helper()
		if sup == 0 {
			sup = e.Supervisor()
		}
		used := cpu(t, sup)
		args := append([]string{"run", "-d", "-v", lines + ":/lines:ro"}, options...)
		begin := time.Now()
		id := e.Run(append(args, image, "/bin/busybox", "cat", "/lines")...)
		e.Run("wait", id)
		took := time.Since(begin)
		note(t, "the supervisor, by its processor time", rate(time.Duration((cpu(t, sup)-used)*1e6)), "MB/s")
		e.Run("rm", id)
		return rate(took)
	}
	busybox := need.Program(t, "busybox", "Debian's busybox-static")
	keep := []string{"--log-opt", "max-size=-1"}
	// By turns, the best of each: the first that fills pages of a virtual machine
	// pays for them.
	var plain, kept float64
	for range 3 {
		begin := time.Now()
		if out, err := exec.Command("sh", "-c", busybox+" cat "+lines+" | "+busybox+" cat > "+filepath.Join(e.Dir, "copy")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		plain = max(plain, rate(time.Since(begin)))
		kept = max(kept, write(keep...))
	}
	note(t, "cat | cat > file", plain, "MB/s")
	slowest(t, "json-file: short lines", kept, 200, "MB/s")
	limit(t, "  slower than cat > file by", plain/kept, 2, "x")
	slowest(t, "local: short lines", write("--log-driver", "local", "--log-opt", "max-size=1g"), 200, "MB/s")
	note(t, "json-file, rotated at 20 MB", write("--log-opt", "max-size=20m", "--log-opt", "max-file=5"), "MB/s")

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
