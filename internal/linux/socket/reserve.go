package socket

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Reserve binds an address and port of "tcp", "udp" or "sctp" in the
// network namespace of the calling thread and returns the socket that holds
// them until it is closed. It returns nil where the kernel does not know the
// protocol, which then has no other user either. The unspecified IPv6 address
// does not stand for those of IPv4.
// Errors: EADDRINUSE, EADDRNOTAVAIL, ….
func Reserve(proto string, at netip.AddrPort) (*os.File, error) {
	fd, err := bound(proto, at, false)
	if err != nil || fd < 0 {
		return nil, err
	}
	return os.NewFile(uintptr(fd), proto+" "+at.String()), nil
}

// Listen is Reserve for a socket that is to serve: of TCP it listens, with the
// longest backlog that the system allows (net.core.somaxconn). Errors: also
// EPROTONOSUPPORT.
func Listen(proto string, at netip.AddrPort) (*os.File, error) {
	fd, err := bound(proto, at, true)
	switch {
	case err != nil:
		return nil, err
	case fd < 0:
		return nil, os.NewSyscallError("socket", unix.EPROTONOSUPPORT)
	}
	if proto != "udp" {
		if err := unix.Listen(fd, 1<<16-1); err != nil {
			unix.Close(fd)
			return nil, os.NewSyscallError("listen", err)
		}
	}
	return os.NewFile(uintptr(fd), proto+" "+at.String()), nil
}

// bound returns a socket that is bound; -1 where the kernel does not know the
// protocol.
func bound(proto string, at netip.AddrPort, serve bool) (fd int, err error) {
	typ, num := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch proto {
	case "udp":
		typ, num = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case "sctp":
		num = unix.IPPROTO_SCTP
	}
	family := unix.AF_INET
	var sa unix.Sockaddr
	if at.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, num)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ESOCKTNOSUPPORT):
		return -1, nil
	case err != nil:
		return -1, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if serve && typ == unix.SOCK_STREAM && err == nil {
		// Connections inherit it, so that those that are left of a server which is
		// gone do not keep the next one from the port. Nobody can bind the port of a
		// socket that listens, whatever he says.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == unix.EADDRINUSE && !serve && typ == unix.SOCK_STREAM {
		// Connections in TIME_WAIT of a server that is gone refuse a plain bind
		// and allow this one; a living server refuses both. The option is taken
		// back so that our own claim stays exclusive.
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
			if err = unix.Bind(fd, sa); err == nil {
				err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
			}
		}
	}
	if err == nil && typ == unix.SOCK_DGRAM && !serve {
		// Nobody reads: keep what strays here as small as the kernel allows.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}
