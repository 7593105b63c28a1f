package cgroup

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// verbs is the environment variable that makes the test binary a process that
// opens a device of RDMA twice.
const verbs = "LADE_TEST_VERBS"

// openContexts opens two contexts of a device, each of which is an "hca_handle"
// to the controller, and prints how each went.
//
// Source: struct ib_uverbs_get_context in the kernel's rdma/ib_user_verbs.h.
func openContexts(device string) {
	for range 2 {
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			var answer [2]uint32
			command := struct {
				number   uint32 // IB_USER_VERBS_CMD_GET_CONTEXT is 0
				in, out  uint16 // in words, both with what is before them
				response uint64
			}{0, 4, 2, uint64(uintptr(unsafe.Pointer(&answer)))}
			_, err = unix.Write(fd, unsafe.Slice((*byte)(unsafe.Pointer(&command)), unsafe.Sizeof(command)))
		}
		fmt.Println(err)
	}
	os.Exit(0)
}

// Messages and attributes of RDMA_NL_NLDEV, from the kernel's rdma/rdma_netlink.h.
const (
	rdmaNewLink  = 5<<10 + 3
	rdmaName     = 2
	rdmaNetdev   = 51
	rdmaLinkType = 65
)

// rdmaDevice makes a device of RDMA over an Ethernet link that goes nowhere, and
// returns the path by which programs open it.
func rdmaDevice(t *testing.T, name string) string {
	t.Helper()
	link := fmt.Sprintf("rdma%d", os.Getpid()%1000000)
	route, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { route.Close() })
	var r netlink.Request
	r.AddDummy(link)
	if err := route.Do(&r); err != nil {
		t.Skipf("the kernel has no links that go nowhere: %v", err)
	}
	t.Cleanup(func() {
		i, err := net.InterfaceByName(link)
		if err != nil {
			t.Error(err)
			return
		}
		var r netlink.Request
		r.DelLink(i.Index)
		if err := route.Do(&r); err != nil {
			t.Error(err)
		}
	})
	rdma, err := netlink.Dial(unix.NETLINK_RDMA)
	if err != nil {
		t.Skipf("the kernel has no RDMA: %v", err)
	}
	t.Cleanup(func() { rdma.Close() })
	r.Reset()
	r.Message(rdmaNewLink, 0)
	r.String(rdmaName, name)
	r.String(rdmaLinkType, "rxe")
	r.String(rdmaNetdev, link)
	if err := rdma.Do(&r); err != nil {
		t.Skipf("the kernel has no RDMA over Ethernet (rdma_rxe): %v", err)
	} // it goes with its link
	found, err := filepath.Glob("/sys/class/infiniband/" + name + "/device/infiniband_verbs/uverbs*")
	if err == nil && len(found) == 0 {
		found, err = filepath.Glob("/sys/class/infiniband_verbs/uverbs*")
	}
	for _, f := range found {
		if of, e := os.ReadFile(f + "/ibdev"); e == nil && strings.TrimSpace(string(of)) == name {
			return "/dev/infiniband/" + filepath.Base(f)
		}
	}
	t.Fatalf("the device %s has no verbs (ib_uverbs): %v, %v", name, found, err)
	return ""
}

// TestRDMA: one context of a device can be had with a limit of one, two cannot.
func TestRDMA(t *testing.T) {
	h := detect(t)
	if _, ok := h.at["rdma"]; !ok {
		t.Skip("the kernel does not limit RDMA")
	}
	const name = "ladetest0"
	device := rdmaDevice(t, name)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("%s=%s exec %s", verbs, device, exe)
	limit := func(n uint32) *specs.LinuxResources {
		return &specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{name: {HcaHandles: &n}}}
	}
	g := create(t, h, limit(1))
	refused := fmt.Sprintf("<nil>\n%v\n", unix.EAGAIN)
	if out, err := output(t, g, script); err != nil || out != refused {
		t.Errorf("with a limit of one: %q, %v; want %q", out, err, refused)
	}
	if err := g.Update(limit(2)); err != nil {
		t.Fatal(err)
	}
	if out, err := output(t, g, script); err != nil || out != "<nil>\n<nil>\n" {
		t.Errorf("after the limit was raised: %q, %v", out, err)
	}
}
