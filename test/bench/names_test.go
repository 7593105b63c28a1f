package bench

import (
	"bytes"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"lade/internal/linux/netns"
	"lade/test/harness"
)

// TestNames asks a container's name server for another container, from the
// container's network namespace, and beside it a server there that sends back what
// it gets.
func TestNames(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("LADE_BENCH is not set")
	}
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	e.Run("network", "create", "bench-names")
	t.Cleanup(func() {
		e.Run("rm", "-f", "asks", "peer")
		e.Run("network", "rm", "bench-names")
	})
	for _, name := range []string{"asks", "peer"} {
		e.Run("run", "-d", "--name", name, "--network", "bench-names", image, "sleep", "1000")
	}
	ns, err := os.Open("/proc/" + e.Run("inspect", "-f", "{{.State.Pid}}", "asks") + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("peer."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	msg, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	echo := echoServer(t, ns)
	for _, s := range []struct {
		what, addr string
		answers    bool
	}{{"a UDP echo server", echo, false}, {"names", "127.0.0.11:53", true}} {
		median, rate := ask(t, ns, s.addr, msg, s.answers)
		if s.answers {
			limit(t, "names: a question, median", median, 0.3, "ms")
			limit(t, "names: time per question when four ask", 1000/rate, 0.05, "ms")
		}
		note(t, s.what+": median", median, "ms")
		note(t, s.what+": questions a second", rate, "")
	}
}

// echoServer is a server in a namespace. It is a goroutine of this process, and so
// on the processors of those who ask.
func echoServer(t *testing.T, ns *os.File) string {
	t.Helper()
	var c net.PacketConn
	err := netns.Do(ns, func() (err error) {
		c, err = net.ListenPacket("udp4", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		in := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(in)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(in[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// ask asks one question after the other, and then four clients with eight under
// way each for a second. It returns the median in milliseconds, and how many were
// answered in a second.
func ask(t *testing.T, ns *os.File, addr string, msg []byte, answers bool) (median, rate float64) {
	t.Helper()
	dial := func() (c net.Conn) {
		err := netns.Do(ns, func() (err error) {
			c, err = net.Dial("udp4", addr)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial()
	defer c.Close()
	in := make([]byte, 512)
	var took times
	for range 20000 {
		began := time.Now()
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(in)
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
		if answers && (n < len(msg)+16 || !bytes.Equal(in[:2], msg[:2]) || in[7] != 1) { // one answer
			t.Fatalf("%x", in[:n])
		}
	}
	const clients, each = 4, 8
	var total atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(time.Second)
	for range clients {
		c := dial()
		all.Go(func() {
			defer c.Close()
			in := make([]byte, 512)
			for range each {
				_, _ = c.Write(msg)
			}
			for time.Now().Before(end) {
				if _, err := c.Read(in); err != nil {
					return
				}
				total.Add(1)
				_, _ = c.Write(msg)
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took.median(), float64(total.Load())
}
