package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// TestTenThousandConnections: clients that say nothing, that never end a header,
// and that follow events, ten thousand together, keep nobody else from being
// served, and leave nothing when they are gone.
func TestTenThousandConnections(t *testing.T) {
	need.Root(t)
	const crowd = 10_000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max*3/4 < crowd+1000 {
		t.Fatalf("%d descriptors at most: too few", limit.Max)
	}
	e := harness.Start(t)
	e.Run("pull", "-q", "lade/hello")
	descriptors := func() int {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", e.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := descriptors()

	var mu sync.Mutex
	var conns []net.Conn
	closeAll := func() {
		for _, c := range conns {
			c.Close()
		}
	}
	defer func() { closeAll() }()
	begun := time.Now()
	var next atomic.Int64
	var dialers sync.WaitGroup
	for range 8 {
		dialers.Go(func() {
			for {
				i := next.Add(1)
				if i > crowd {
					return
				}
				c, err := dialBusy(e.Socket)
				if err != nil {
					t.Errorf("connect: %v", err)
					return
				}
				switch i % 3 {
				case 0:
					fmt.Fprint(c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
				case 1:
					fmt.Fprint(c, "POST /containers/create HTTP/1.1\r\nHost: x\r\nX-Lo")
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	dialers.Wait()
	there := crowd
	if time.Since(begun) > 20*time.Second { // who says nothing for a minute is gone
		there = crowd / 3
	}
	await(t, "the daemon has them", func() bool { return descriptors() >= before+there })
	if out := e.Run("run", "--rm", "lade/hello", "echo", "served"); !strings.Contains(out, "served") {
		t.Errorf("beside them: %s", out)
	}
	closeAll()
	await(t, "nothing of them is left", func() bool { return descriptors() <= before+50 })
	if out := e.Run("ps", "-aq"); out != "" {
		t.Errorf("containers: %s", out)
	}
}

// dialBusy connects with a socket whose queue may be full.
func dialBusy(socket string) (net.Conn, error) {
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil || !errors.Is(err, unix.EAGAIN) || time.Now().After(end) {
			return c, err
		}
	}
}
