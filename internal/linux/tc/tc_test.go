package tc

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
)

// cable is a pair of interfaces, a and b, and an ifb, in a namespace of its own.
type cable struct {
	t          *testing.T
	rt         *netlink.Conn
	a, b, ifb  int // indexes
	fromB, toA int // packet sockets
}

// inCable runs f on a new cable.
func inCable(t *testing.T, f func(c *cable)) {
	need.Root(t)
	ns, err := netns.New(func(*os.File) error {
		c := &cable{t: t}
		var err error
		if c.rt, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		defer c.rt.Close()
		// Else the kernel sends frames of its own, which are counted and wait like ours.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		var r netlink.Request
		r.AddVeth(netlink.Veth{Name: "a", MTU: 1500, Peer: "b"})
		r.SetUp(0, "b")
		r.SetUp(0, "a")
		r.AddIFB("i")
		r.SetUp(0, "i")
		c.do(&r)
		c.a, c.b, c.ifb = c.link("a").Index, c.link("b").Index, c.link("i").Index
		c.fromB, c.toA = c.packets(c.b), c.packets(c.a)
		defer unix.Close(c.fromB)
		defer unix.Close(c.toA)
		f(c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
}

func (c *cable) do(r *netlink.Request) {
	c.t.Helper()
	if err := c.rt.Do(r); err != nil {
		c.t.Error(err)
	}
}

func (c *cable) link(name string) netlink.Link {
	c.t.Helper()
	l, err := c.rt.Link(0, name)
	if err != nil {
		c.t.Error(err)
	}
	return l
}

func (c *cable) root(index int) Qdisc {
	c.t.Helper()
	q, err := Root(c.rt, index)
	if err != nil {
		c.t.Error(err)
	}
	return q
}

// packets opens a socket that sends and receives frames of an interface.
func (c *cable) packets(index int) int {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(experimental), Ifindex: index})
	}
	if err != nil {
		c.t.Error(err)
	}
	return fd
}

// experimental is the EtherType of our frames (IEEE 802.1, local experimental).
const experimental = 0x88B5

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

// send makes b send n frames of so many bytes.
func (c *cable) send(n, size int) {
	c.t.Helper()
	frame := make([]byte, size)
	copy(frame, c.link("a").MAC)
	copy(frame[6:], c.link("b").MAC)
	binary.BigEndian.PutUint16(frame[12:], experimental)
	for range n {
		if _, err := unix.Write(c.fromB, frame); err != nil && err != unix.ENOBUFS {
			c.t.Error(err)
		}
	}
}

// heard waits until n frames have reached a's receivers, and says how long it took.
func (c *cable) heard(n int) time.Duration {
	c.t.Helper()
	began := time.Now()
	for got := 0; got < n; {
		if took := time.Since(began); took > need.Patience(30*time.Second) {
			c.t.Errorf("%d of %d frames arrived in %v", got, n, took)
			return took
		}
		got += c.arrived(20 * time.Millisecond)
	}
	return time.Since(began)
}

// arrived waits so long for a frame, and counts what is there.
func (c *cable) arrived(d time.Duration) (frames int) {
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.toA), Events: unix.POLLIN}}, int(d.Milliseconds())); err != nil && err != unix.EINTR {
		c.t.Error(err)
	}
	buf := make([]byte, 2048)
	for {
		if _, err := unix.Read(c.toA, buf); err != nil {
			return frames
		}
		frames++
	}
}

func (c *cable) redirect() {
	var r netlink.Request
	AddIngress(&r, c.a)
	Redirect(&r, c.a, c.ifb)
	c.do(&r)
}

func TestTBF(t *testing.T) {
	inCable(t, func(c *cable) {
		if q := c.root(c.b); q.Kind == "tbf" {
			t.Errorf("before: %+v", q)
		}
		var r netlink.Request
		ReplaceTBF(&r, c.b, TBF{Rate: 1000, Burst: 4000, Limit: 6000})
		c.do(&r)
		c.send(20, 1000) // 4 pass, 6 wait, 10 are dropped; another passes each second
		q := c.root(c.b)
		if q.Kind != "tbf" || q.TBF.Rate != 1000 || q.TBF.Limit != 6000 || q.Packets < 4 || q.Dropped == 0 || q.Dropped > 10 || q.Backlog == 0 || q.Overlimits == 0 {
			t.Errorf("after the burst: %+v", q)
		}
		// What waits is kept, and sent at the new rate.
		r.Reset()
		ReplaceTBF(&r, c.b, TBF{Rate: 6 << 30, Burst: 4000, Limit: 6000})
		c.do(&r)
		c.heard(int(20 - q.Dropped))
		if n := c.arrived(0); n > 0 {
			t.Errorf("%d frames more arrived, %d were dropped", n, q.Dropped)
		}
		if q := c.root(c.b); q.TBF.Rate != 6<<30 || q.Backlog != 0 {
			t.Errorf("with a rate above 32 bits: %+v", q)
		}
		r.Reset()
		DelRoot(&r, c.b)
		c.do(&r)
		if l := c.link("b"); l.Qdisc != "noqueue" {
			t.Errorf("after removal: %s", l.Qdisc)
		}
		if err := c.rt.Do(&r); !errors.Is(err, unix.ENOENT) {
			t.Errorf("removed twice: %v", err)
		}
	})
}

func TestRedirect(t *testing.T) {
	inCable(t, func(c *cable) {
		var r netlink.Request
		ReplaceTBF(&r, c.ifb, TBF{Rate: 20_000, Burst: 2000, Limit: 100_000})
		c.do(&r)
		c.redirect()
		c.send(30, 1000)
		if took := c.heard(30); took < 1200*time.Millisecond {
			t.Errorf("30 kB arrived in %v at 20 kB/s with a burst of 2 kB", took)
		}
		// The shortest frames, which have nothing that a key could look at.
		before := c.root(c.ifb).Packets
		c.send(10, 14)
		c.send(10, 15)
		c.heard(20)
		if n := c.root(c.ifb).Packets - before; n < 20 {
			t.Errorf("%d of 20 short frames went through the ifb", n)
		}
		// The same again changes nothing.
		r.Reset()
		AddIngress(&r, c.a)
		c.do(&r)
		r.Reset()
		Redirect(&r, c.a, c.ifb)
		if err := c.rt.Do(&r); !errors.Is(err, unix.EEXIST) {
			t.Errorf("redirected twice: %v", err)
		}
		before = c.root(c.ifb).Packets
		c.send(1, 100)
		c.heard(1)
		if n := c.arrived(0); n > 0 || c.root(c.ifb).Packets == before {
			t.Errorf("%d frames more arrived, %d through the ifb", n, c.root(c.ifb).Packets-before)
		}
		// Without its ifb nothing passes, and after the end all.
		r.Reset()
		r.DelLink(c.ifb)
		c.do(&r)
		c.send(5, 100)
		if n := c.arrived(100 * time.Millisecond); n != 0 {
			t.Errorf("%d frames arrived without the ifb", n)
		}
		r.Reset()
		DelIngress(&r, c.a)
		c.do(&r)
		c.send(50, 1000)
		c.heard(50)
		if err := c.rt.Do(&r); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			t.Errorf("ended twice: %v", err)
		}
	})
}

// FuzzParse feeds answers to all that reads them.
func FuzzParse(f *testing.F) {
	var r netlink.Request
	ReplaceTBF(&r, 1, TBF{Rate: 1, Burst: 2, Limit: 3})
	f.Add(r.Bytes()[unix.NLMSG_HDRLEN:])
	f.Fuzz(func(t *testing.T, data []byte) {
		parseQdisc(netlink.Message{Type: unix.RTM_NEWQDISC, Data: data})
	})
}
