package netns

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Sockets counts the sockets of a namespace, from anywhere. It keeps the
// namespace.
type Sockets struct{ fd int }

// OpenSockets opens the counters of the calling thread's namespace. The caller
// must Close them.
func OpenSockets() (*Sockets, error) {
	const name = "/proc/thread-self/net/sockstat"
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return &Sockets{fd}, nil
}

// Count returns how many sockets there are: those of every family, also the
// ones that no process has any more, and the connections that are only
// remembered (TIME_WAIT). What the kernel itself uses is not counted. Before
// Linux 4.16 the first number is that of all namespaces.
//
// Source: sockstat_seq_show in net/ipv4/proc.c, sock_inuse_get in net/core/sock.c.
func (s *Sockets) Count() (sockets, remembered int, err error) {
	var buf [1024]byte
	n, err := unix.Pread(s.fd, buf[:], 0)
	if err != nil {
		return 0, 0, os.NewSyscallError("pread(sockstat)", err)
	}
	sockets, remembered = -1, -1
	for line := range bytes.Lines(buf[:n]) {
		f := bytes.Fields(line)
		for i := 1; i+1 < len(f); i += 2 {
			v, err := strconv.Atoi(string(f[i+1]))
			if err != nil {
				return 0, 0, errdefs.Internalf("sockstat: %q", line)
			}
			switch {
			case string(f[0]) == "sockets:" && string(f[i]) == "used":
				sockets = v
			case string(f[0]) == "TCP:" && string(f[i]) == "tw":
				remembered = v
			}
		}
	}
	if sockets < 0 || remembered < 0 {
		return 0, 0, errdefs.Internalf("sockstat: %q", buf[:n])
	}
	return sockets, remembered, nil
}

// Close closes the counters.
func (s *Sockets) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }
