package xfrm

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
)

// zeros and ones are runs of bytes in what a test expects.
func zeros(n int) string { return strings.Repeat("00", n) }
func ones(n int) string  { return strings.Repeat("ff", n) }

// TestEncode compares with what ip(8) of iproute2 6.1 sends for
//
//	ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x1000 reqid 0x6c6112b4 mode transport
//	  enc 'cbc(aes)' 0x0001…1f auth-trunc 'hmac(sha256)' 0x2021…3f 128 extra-flag oseq-may-wrap
//	ip xfrm policy update src 10.0.0.1/32 dst 0.0.0.0/0 proto udp dport 4788 dir out
//	  tmpl proto esp reqid 0x6c6112b4 mode transport
func TestEncode(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	s := State{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x1000, ReqID: 0x6c6112b4}
	for i := range s.Encrypt {
		s.Encrypt[i], s.Integrity[i] = byte(i), byte(32+i)
	}
	lifetime := ones(32) + zeros(64)
	keys := hex.EncodeToString(s.Encrypt[:])
	for _, tc := range []struct {
		name  string
		build func(*netlink.Request)
		want  string
	}{
		{"state", func(r *netlink.Request) { addState(r, s) },
			"cc010000 1000 0100 00000000 00000000" + zeros(56) + "0a000002" + zeros(12) + "00001000 32000000" + "0a000001" + zeros(12) +
				lifetime + zeros(16) + "b412616c 0200" + zeros(10) +
				"6800 0200" + hex.EncodeToString([]byte("cbc(aes)")) + zeros(56) + "00010000" + keys +
				"6c00 1400" + hex.EncodeToString([]byte("hmac(sha256)")) + zeros(52) + "00010000 80000000" + hex.EncodeToString(s.Integrity[:]) +
				"0800 1800 02000000"},
		{"policy", func(r *netlink.Request) {
			setPolicy(r, Policy{Direction: Out, Local: s.Src, Port: 4788, ReqID: s.ReqID})
		},
			"fc000000 1900 0100 00000000 00000000" + zeros(16) + "0a000001" + zeros(12) + "12b4 ffff 0000 0000 0200 00 20 11" + zeros(11) +
				lifetime + zeros(8) + "01" + zeros(7) +
				"4400 0500" + zeros(20) + "32000000 0200 0000" + zeros(16) + "b412616c 00000000" + ones(12)},
	} {
		var r netlink.Request
		tc.build(&r)
		if got, want := hex.EncodeToString(r.Bytes()), strings.ReplaceAll(tc.want, " ", ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, want)
		}
	}
}

// TestKernel sets policies in a namespace of its own: without a state nothing
// leaves for the port, and nothing is taken that comes for it.
func TestKernel(t *testing.T) {
	need.Root(t)
	lo := netip.MustParseAddr("127.0.0.1")
	ns, err := netns.New(func(*os.File) error {
		rt, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer rt.Close()
		// What stays on the host is left out as a rule.
		err = errors.Join(netns.Sysctl("net/ipv4/conf/lo/disable_xfrm", "0"), netns.Sysctl("net/ipv4/conf/lo/disable_policy", "0"))
		if err != nil {
			return err
		}
		var r netlink.Request
		r.SetUp(1, "")
		if err := rt.Do(&r); err != nil {
			return err
		}
		c, err := Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		in, out := Policy{In, lo, 4788, 7}, Policy{Out, lo, 4788, 7}
		closed, err := receiver(t, 4788)
		if err != nil {
			return err
		}
		open, err := receiver(t, 4790)
		if err != nil {
			return err
		}
		for _, p := range []Policy{in, out, out} { // the last one is replaced
			if err := c.SetPolicy(p); err != nil {
				return err
			}
		}
		if all, err := c.Policies(); err != nil || len(all) != 2 || !slices.Contains(all, in) || !slices.Contains(all, out) {
			t.Errorf("policies: %v, %v", all, err)
		}
		// What may leave comes after what may not: when that is there, all is.
		send(t, 4788, "refused")
		send(t, 4790, "passes")
		await(t, open, "passes")
		if err := c.DelPolicy(out); err != nil {
			return err
		}
		send(t, 4788, "not taken")
		send(t, 4790, "passes")
		await(t, open, "passes")
		if err := c.DelPolicy(in); err != nil {
			return err
		}
		send(t, 4788, "taken")
		await(t, closed, "taken")
		if err := c.DelPolicy(in); !errors.Is(err, unix.ENOENT) {
			t.Errorf("a policy that is gone: %v", err)
		}
		return states(t, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
}

// states adds states and removes them, where the kernel has ESP.
func states(t *testing.T, c *Conn) error {
	s := State{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x1000, ReqID: 7}
	err := c.AddState(s)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Log("the kernel has no ESP: it refuses a state as the documentation says")
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.AddState(s); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a state that is there: %v", err)
	}
	if all, err := c.States(7); err != nil || len(all) != 1 || all[0] != s {
		t.Errorf("states: %v, %v", all, err)
	}
	if all, err := c.States(8); err != nil || len(all) != 0 {
		t.Errorf("states of another request id: %v, %v", all, err)
	}
	if err := c.DelState(s); err != nil {
		return err
	}
	if err := c.DelState(s); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a state that is gone: %v", err)
	}
	return nil
}

// receiver returns what comes for a port of the calling thread's namespace.
func receiver(t *testing.T, port int) (chan string, error) {
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan string, 10)
	go func() {
		buf := make([]byte, 100)
		for {
			n, _, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			got <- string(buf[:n])
		}
	}()
	return got, nil
}

func send(t *testing.T, port int, what string) {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Logf("to port %d: %v", port, err) // a policy may say so already
		return
	}
	defer c.Close()
	if _, err := c.Write([]byte(what)); err != nil {
		t.Logf("to port %d: %v", port, err)
	}
}

func await(t *testing.T, got chan string, want string) {
	t.Helper()
	select {
	case s := <-got:
		if s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%q did not arrive", want)
	}
}
