package network

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netns"
	"lade/internal/network/ipam"
	"lade/internal/store"
)

// withoutEnv names the store of the engine in TestWithoutNftables.
const withoutEnv = "LADE_TEST_WITHOUT"

// TestWithoutNftables starts engines on a kernel that has no nftables: for this
// process it says so.
func TestWithoutNftables(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PoolSize = -1 })
	b.crash()
	before := b.inventory()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWithin$", "-test.v")
	cmd.Env = append(os.Environ(), withoutEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestWithin") {
		t.Errorf("%v\n%s", err, out)
	}
	if now := b.inventory(); !slices.Equal(now, before) {
		t.Errorf("before %v, now %v", before, now)
	}
	b.start()
}

// TestWithin is the process without nftables.
func TestWithin(t *testing.T) {
	dir := os.Getenv(withoutEnv)
	if dir == "" {
		return
	}
	deny(t)
	start := func(change func(*Config)) (*Networks, error) {
		s, err := store.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		c := Config{Store: s, Logger: slog.New(slog.DiscardHandler), Bridge: "ltwithout", ICC: true, IPMasq: true, PoolSize: -1}
		change(&c)
		return New(t.Context(), c)
	}
	n, err := start(func(c *Config) { c.Disabled = true })
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.Connect(t.Context(), Request{ContainerID: "1", Network: network.NetworkNone})
	if err != nil {
		t.Fatal(err)
	}
	e.NetNS.Close()
	_, err = n.Create(t.Context(), network.CreateRequest{Name: "a"})
	if errdefs.KindOf(err) != errdefs.NotImplemented || !strings.Contains(err.Error(), "networks need a kernel with nftables") {
		t.Errorf("a network: %v", err)
	}
	if n.ID("a") != "" {
		t.Error("the network is there")
	}
	if err := n.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if err := n.c.Store.Close(); err != nil {
		t.Error(err)
	}
	if _, err := start(func(*Config) {}); errdefs.KindOf(err) != errdefs.NotImplemented || !strings.Contains(err.Error(), "(--bridge=none)") {
		t.Errorf("with a default bridge: %v", err)
	}
}

// deny makes socket(AF_NETLINK, …, NETLINK_NETFILTER) fail as on a kernel without,
// for all threads.
func deny(t *testing.T) {
	const nr, domain, protocol = 0, 16, 32 // in struct seccomp_data, little endian
	ld := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(v uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: v, Jf: skip}
	}
	prog := []unix.SockFilter{
		ld(nr), unless(unix.SYS_SOCKET, 5), ld(domain), unless(unix.AF_NETLINK, 3), ld(protocol), unless(unix.NETLINK_NETFILTER, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		t.Fatal(errno)
	}
	if _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER); !errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Fatalf("the filter: %v", err)
	}
}

// TestExhaustedPools asks for more networks than the pools have, and for one more
// after another is gone.
func TestExhaustedPools(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.BIP, c.PoolSize = netip.MustParsePrefix("10.60.0.1/24"), -1
		c.Pools = []ipam.Pool{{Base: netip.MustParsePrefix("10.61.0.0/23"), Size: 24}}
	})
	b.create(network.CreateRequest{Name: "a"})
	b.create(network.CreateRequest{Name: "b", Driver: driverMacvlan})
	before := b.inventory()
	for _, driver := range []string{driverBridge, driverMacvlan} {
		_, err := b.n.Create(t.Context(), network.CreateRequest{Name: "c", Driver: driver})
		if errdefs.KindOf(err) != errdefs.Exhausted || err.Error() != "all predefined address pools have been fully subnetted" {
			t.Errorf("%s: %v", driver, err)
		}
	}
	if now := b.inventory(); len(now) != len(before) {
		t.Errorf("before %v, now %v", before, now)
	}
	if err := b.n.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	b.create(network.CreateRequest{Name: "c"})
}

// TestLinkLocal gives endpoints further addresses of the link only, on a bridge
// and on macvlan.
func TestLinkLocal(t *testing.T) {
	b := newBench(t, nil)
	six := true
	b.create(network.CreateRequest{Name: "a", EnableIPv6: &six, IPAM: subnet("10.61.0.0/24", "fd61::/64")})
	b.create(network.CreateRequest{Name: "b", EnableIPv6: &six, Driver: driverMacvlan, IPAM: subnet("10.62.0.0/24", "fd62::/64")})
	for i, name := range []string{"a", "b"} {
		v4, v6 := netip.AddrFrom4([4]byte{169, 254, 7, byte(i + 1)}), netip.MustParseAddr("fe80::7:1")
		one := b.connect(Request{Name: "one", Network: name, LinkLocal: []netip.Addr{v4, v6}})
		two := b.connect(Request{Name: "two", Network: name, LinkLocal: []netip.Addr{netip.AddrFrom4([4]byte{169, 254, 7, 9})}})
		serve(t, one.NetNS, "tcp", v4.String()+":80")
		answers(t, name+": IPv4", two.NetNS, "tcp", v4.String()+":80", "169.254.7.9")
		err := netns.Do(one.NetNS, func() error {
			addrs, err := net.InterfaceAddrs()
			if err == nil && !slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == "fe80::7:1/64" }) {
				err = errors.New("no fe80::7:1")
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: IPv6: %v", name, err)
		}
	}
}
