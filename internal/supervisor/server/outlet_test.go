package server

import (
	"bufio"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// TestRealOutlet sends a log to a target that is away at first, while the program
// is replaced: every line arrives once and in order, the last ones after the end.
func TestRealOutlet(t *testing.T) {
	r := newRooted(t, true)
	m := r.message("count")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	m.Log.Target = &wire.Target{Driver: "syslog", Network: "tcp", Addresses: []string{address}, Container: m.ID, Tag: "x"}
	r.run(m)
	need.Eventually(t, "lines wait", func() bool { return len(r.logged(m.ID)) > 5 })
	if err := r.client.Upgrade(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.connect(supervisor.Options{})
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	lines, last := bufio.NewScanner(c), 0
	read := func(until int) {
		t.Helper()
		for last < until && lines.Scan() {
			_, text, _ := strings.Cut(lines.Text(), "]: ")
			if n, err := strconv.Atoi(text); err != nil || n != last+1 {
				t.Fatalf("after %d: %q", last, lines.Text())
			}
			last++
		}
		if last < until {
			t.Fatalf("%d lines of %d: %v", last, until, lines.Err())
		}
	}
	read(20)
	if err := r.client.Signal(t.Context(), &wire.Signal{ID: m.ID, Signal: int(unix.SIGKILL), All: true}); err != nil {
		t.Fatal(err)
	}
	r.events.exit(m.ID, "")
	read(len(r.logged(m.ID))) // what is left is sent after the end
}
