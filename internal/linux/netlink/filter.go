package netlink

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Only lets the kernel drop, before it is queued, every notification whose
// first message is of none of these types. The kernel sends one message in each
// datagram of NETLINK_ROUTE's groups.
//
// Source: Documentation/networking/filter.rst; sk_filter in net/netlink/af_netlink.c.
func (m *Monitor) Only(types ...uint16) error {
	const typeAt = 4 // in struct nlmsghdr
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeAt}}
	for i, t := range types {
		// A load reads big endian, the header is in the machine's order.
		v := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, t))
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(v), Jt: uint8(len(types) - i)})
	}
	prog = append(prog,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
	)
	raw, err := m.f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt(SO_ATTACH_FILTER)", set)
}
