package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestLogDrivers sends logs to receivers that speak the real protocols, and
// reads them back from the engine, too.
func TestLogDrivers(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	e.Run("run", "--rm", "lade/hello", "true") // the image is there
	t.Run("local", func(t *testing.T) { testLocal(t, e) })
	t.Run("journald", func(t *testing.T) { testJournald(t, e) })
	t.Run("syslog", func(t *testing.T) { testSyslog(t, e) })
	t.Run("gelf", func(t *testing.T) { testGELF(t, e) })
	t.Run("fluentd", func(t *testing.T) { testFluentd(t, e) })
	t.Run("clear", func(t *testing.T) { testClear(t, e) })
	t.Run("dead", func(t *testing.T) { testDead(t, e) })
}

// count prints numbered lines.
func count(n int) string {
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done", n)
}

// numbered checks that lines are those of count, all and in order.
func numbered(t *testing.T, lines []string, n int) {
	t.Helper()
	if len(lines) != n {
		t.Errorf("%d lines of %d", len(lines), n)
	}
	for i, l := range lines {
		if l != "line "+strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, l)
		}
	}
}

func logLines(e *harness.Engine, args ...string) []string {
	return strings.Split(e.Run(append([]string{"logs"}, args...)...), "\n")
}

func testLocal(t *testing.T, e *harness.Engine) {
	const n = 4000
	e.Run("run", "--name", "local", "--log-driver", "local", "--log-opt", "max-size=32k", "--log-opt", "max-file=9", "lade/hello", "sh", "-c", count(n))
	numbered(t, logLines(e, "local"), n)
	id := e.Run("inspect", "-f", "{{.Id}}", "local")
	dir := filepath.Join(e.Dir, "data/containers", id)
	packed := 0
	for end := time.Now().Add(need.Patience(30 * time.Second)); packed < 2 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // packing goes on for a moment
		files, err := filepath.Glob(filepath.Join(dir, "container.log.*.gz"))
		if err != nil {
			t.Fatal(err)
		}
		packed = len(files)
	}
	if packed < 2 {
		t.Errorf("%d compressed files", packed)
	}
	if got := logLines(e, "--tail", "1500", "local"); len(got) != 1500 || got[0] != "line 2500" {
		t.Errorf("tail: %d lines, the first %q", len(got), got[0])
	}
	e.Kill() // read without the engine, too
	out, err := exec.Command(filepath.Join(e.Bin, "laded"), "logs", "--data-root", filepath.Join(e.Dir, "data"), "--config-file", filepath.Join(e.Dir, "daemon.json"), "local").CombinedOutput()
	if err != nil {
		t.Errorf("laded logs: %v\n%s", err, out)
	}
	numbered(t, strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"), n)
	e.Launch()
	stamped := logLines(e, "-t", "local")
	at, _, _ := strings.Cut(stamped[n/2], " ")
	if got := logLines(e, "--since", at, "local"); len(got) < n/2 || got[len(got)-1] != "line "+strconv.Itoa(n-1) {
		t.Errorf("since: %d lines", len(got))
	}
	e.Run("rm", "local")
}

func testJournald(t *testing.T, e *harness.Engine) {
	path := filepath.Join(e.Dir, "journal")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e.Run("run", "--name", "journal", "--label", "a.b=c", "--log-driver", "journald", "--log-opt", "journald-address=unixgram://"+path, "--log-opt", "labels=a.b",
		"--log-opt", "tag={{.Name}}/{{.ImageName}}", "lade/hello", "sh", "-c", "echo out; echo err >&2")
	var all []string
	for range 2 {
		all = append(all, string(receive(t, l)))
	}
	got := strings.Join(all, "---\n")
	id := e.Run("inspect", "-f", "{{.Id}}", "journal")
	for _, want := range []string{"CONTAINER_ID_FULL=" + id, "CONTAINER_NAME=journal\n", "A_B=c\n", "CONTAINER_TAG=journal/lade/hello\n", "MESSAGE=out\n", "PRIORITY=6\n", "MESSAGE=err\n", "PRIORITY=3\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if got := e.Run("logs", "journal"); got != "out" { // the other one is on standard error
		t.Errorf("read back: %q", got)
	}
	e.Run("rm", "journal")
}

// receive reads one datagram.
func receive(t *testing.T, l net.PacketConn) []byte {
	t.Helper()
	l.SetReadDeadline(time.Now().Add(need.Patience(30 * time.Second)))
	b := make([]byte, 64<<10)
	n, _, err := l.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func testSyslog(t *testing.T, e *harness.Engine) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	e.Run("run", "--rm", "--log-driver", "syslog", "--log-opt", "syslog-address=udp://"+udp.LocalAddr().String(), "--log-opt", "syslog-facility=local1",
		"--log-opt", "syslog-format=rfc5424", "--log-opt", "tag=me", "lade/hello", "sh", "-c", "echo bad >&2")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	got := string(receive(t, udp))
	f := strings.Fields(got)
	if len(f) != 8 || f[0] != "<139>1" || f[2] != host || f[3] != "me" || f[5] != "me" || f[7] != "bad" { // 17*8+3
		t.Errorf("the datagram of syslog: %q", got)
	}
	if _, err := time.Parse(time.RFC3339, f[1]); err != nil {
		t.Errorf("the time of syslog's datagram: %v", err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	lines := make(chan []string)
	go func() {
		c, err := tcp.Accept()
		if err != nil {
			t.Errorf("accept the log driver's connection: %v", err)
			close(lines)
			return
		}
		defer c.Close()
		var got []string
		for s := bufio.NewScanner(c); s.Scan(); {
			_, text, _ := strings.Cut(s.Text(), "]: ")
			got = append(got, text)
		}
		lines <- got
	}()
	e.Run("run", "--rm", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://"+tcp.Addr().String(), "lade/hello", "sh", "-c", count(2000))
	numbered(t, <-lines, 2000)
}

func testGELF(t *testing.T, e *harness.Engine) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	run := func(compression, command string) {
		e.Run("run", "--rm", "--log-driver", "gelf", "--log-opt", "gelf-address=udp://"+udp.LocalAddr().String(), "--log-opt", "gelf-compression-type="+compression,
			"--log-opt", "env=K", "-e", "K=v", "lade/hello", "sh", "-c", command)
	}
	run("gzip", "echo short")
	var m struct {
		Version, Short_message string
		Level                  int
		Timestamp              float64
		K                      string `json:"_K"`
		Tag                    string `json:"_tag"`
	}
	z, err := gzip.NewReader(bytes.NewReader(receive(t, udp)))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&m); err != nil {
		t.Fatal(err)
	}
	if m.Version != "1.1" || m.Short_message != "short" || m.Level != 6 || m.K != "v" || len(m.Tag) != 12 || time.Since(time.UnixMilli(int64(m.Timestamp*1000))) > time.Minute {
		t.Errorf("the message of GELF: %+v", m)
	}
	run("none", "s=0123456789; s=$s$s$s$s$s$s$s$s$s$s; echo $s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s$s")
	var whole []byte
	for n, of := 0, 1; n < of; n++ {
		b := receive(t, udp)
		if b[0] != 0x1e || b[1] != 0x0f || int(b[10]) != n || len(b) > 1420 {
			t.Fatalf("chunk %d: % x", n, b[:12])
		}
		of = int(b[11])
		whole = append(whole, b[12:]...)
	}
	if err := json.Unmarshal(whole, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Short_message) != 3000 {
		t.Errorf("%d bytes", len(m.Short_message))
	}
}

// testFluentd has a receiver that acknowledges, and that is away for a while:
// nothing is lost, and `logs` has everything, too.
func testFluentd(t *testing.T, e *harness.Engine) {
	const n = 3000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan []string)
	go func() {
		var all []string
		last := -1
		for connection := 0; ; connection++ {
			c, err := l.Accept()
			if err != nil {
				t.Errorf("accept the log driver's connection: %v", err)
				break
			}
			r := bufio.NewReader(c)
			for k := 0; connection > 0 || k < 500; k++ { // the first receiver fails
				v, err := unmsgpack(r)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("read an entry: %v", err)
					}
					break
				}
				entry := v.([]any)
				record := entry[2].(map[string]any)
				text := record["log"].(string)
				if i, err := strconv.Atoi(strings.TrimPrefix(text, "line ")); err != nil || i > last { // not told twice
					all = append(all, text)
					last = i
				}
				if entry[0] != "app.fluent" || record["source"] != "stdout" || record["container_name"] != "/fluent" {
					t.Errorf("an entry of Fluentd: %v", entry)
				}
				chunk := entry[3].(map[string]any)["chunk"].(string)
				fmt.Fprintf(c, "\x81\xa3ack\xd9%c%s", len(chunk), chunk)
				if last == n-1 {
					c.Close()
					got <- all
					return
				}
			}
			c.Close()
		}
		close(got)
	}()
	e.Run("run", "--name", "fluent", "--log-driver", "fluentd", "--log-opt", "fluentd-address="+l.Addr().String(), "--log-opt", "fluentd-request-ack=true",
		"--log-opt", "fluentd-sub-second-precision=true", "--log-opt", "tag=app.{{.Name}}", "lade/hello", "sh", "-c", count(n))
	numbered(t, <-got, n)
	numbered(t, logLines(e, "fluent"), n)
	e.Run("rm", "fluent")
}

// testClear removes what was logged, of every driver that can be read, and of a
// container that has ended.
func testClear(t *testing.T, e *harness.Engine) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, options := range [][]string{
		{"--log-driver", "json-file", "--log-opt", "max-size=4k", "--log-opt", "max-file=4"},
		{"--log-driver", "local", "--log-opt", "max-size=4k"},
		{"--log-driver", "syslog", "--log-opt", "syslog-address=udp://" + udp.LocalAddr().String()},
	} {
		driver := options[1]
		e.Run(slices.Concat([]string{"run", "-d", "--name", "clear"}, options, []string{"lade/hello", "sh", "-c", count(300) + "; until [ -e /go ]; do sleep 0.05; done; echo after"})...)
		until(t, e, "line 299", "logs", "-n", "1", "clear")
		e.Run("logs", "--clear", "clear")
		if got := e.Run("logs", "clear"); got != "" {
			t.Errorf("%s: still %q", driver, got)
		}
		e.Run("exec", "clear", "touch", "/go")
		e.Run("wait", "clear")
		if got := e.Run("logs", "clear"); got != "after" {
			t.Errorf("%s: %q", driver, got)
		}
		e.Run("logs", "--clear", "clear")
		if got := e.Run("logs", "clear"); got != "" {
			t.Errorf("%s: still %q after its end", driver, got)
		}
		e.Run("rm", "clear")
	}
	e.Run("create", "--name", "clear", "--log-driver", "none", "lade/hello")
	if _, stderr, code := e.Try("logs", "--clear", "clear"); code != 1 || !strings.Contains(stderr, "configured logging driver does not support reading") {
		t.Errorf("none: exit code %d, %q", code, stderr)
	}
	e.Run("rm", "clear")
}

// testDead has a target where nobody listens: a container whose log may drop
// goes on, one whose log may not waits and loses nothing.
func testDead(t *testing.T, e *harness.Engine) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	const n = 60_000 // more than what may wait
	began := time.Now()
	e.Run("run", "--rm", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://"+address, "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k",
		"lade/hello", "sh", "-c", count(n))
	t.Logf("not held up for longer than %s", time.Since(began))
	id := e.Run("run", "-d", "--name", "waits", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://"+address, "--log-opt", "cache-disabled=true",
		"lade/hello", "sh", "-c", count(n))
	if _, stderr, code := e.Try("logs", "waits"); code == 0 || !strings.Contains(stderr, "configured logging driver does not support reading") {
		t.Errorf("logs: exit code %d, %q", code, stderr)
	}
	time.Sleep(300 * time.Millisecond)
	if got := e.Run("ps", "-q", "--no-trunc"); got != id {
		t.Errorf("it has not waited: %q", got)
	}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var lines []string
	for s := bufio.NewScanner(c); s.Scan(); {
		_, text, _ := strings.Cut(s.Text(), "]: ")
		lines = append(lines, text)
	}
	numbered(t, lines, n)
	until(t, e, "", "ps", "-q")
	e.Run("rm", "waits")
}

// unmsgpack reads the values that fluentd is sent.
//
// Source: github.com/msgpack/msgpack, spec.md.
func unmsgpack(r *bufio.Reader) (any, error) {
	c, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	size := func(n int) int {
		b := make([]byte, 8)
		_, err = io.ReadFull(r, b[8-n:])
		return int(binary.BigEndian.Uint64(b))
	}
	str := func(n int) (any, error) {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return string(b), err
	}
	entries := func(n int) (any, error) {
		m := map[string]any{}
		for range n {
			k, err := unmsgpack(r)
			if err != nil {
				return nil, err
			}
			if m[k.(string)], err = unmsgpack(r); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	switch {
	case c>>4 == 9:
		var a []any
		for range c & 15 {
			v, err := unmsgpack(r)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		return a, nil
	case c>>5 == 5:
		return str(int(c & 31))
	case c>>4 == 8:
		return entries(int(c & 15))
	case c == 0xd9 || c == 0xda || c == 0xdb:
		return str(size(1 << (c - 0xd9)))
	case c == 0xde:
		return entries(size(2))
	case c == 0xce:
		return size(4), err
	case c == 0xd7:
		_, v := size(1), size(8)
		return v, err
	}
	return nil, fmt.Errorf("msgpack %#x", c)
}
