package supervisor

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// TestLost: when the supervisor dies, what it had answered is answered, the request
// that it had not read can be told from one of which it is not known.
func TestLost(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	server := fds[1]
	buf := make([]byte, wire.PacketLen)
	receive := func() uint32 {
		f, err := wire.Receive(server, buf, 0)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer f.Close()
		return f.Request
	}
	answer := func(request uint32, msg any) {
		p, err := wire.NewPacket(request, msg, nil)
		if err == nil {
			err = p.Send(server, 0)
			p.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	go func() { answer(receive(), &wire.Welcome{Version: wire.Version}) }()
	c, _, err := newClient(t.Context(), Options{}, fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() chan error {
		done := make(chan error, 1)
		go func() { done <- c.Signal(t.Context(), &wire.Signal{ID: "c", Signal: 15}) }()
		return done
	}
	answered := ask()
	first := receive()
	taken := ask()
	receive()
	unread := ask()
	queued := []unix.PollFd{{Fd: int32(server), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(queued, -1); err == nil {
			break
		} else if err != unix.EINTR {
			t.Fatal(err)
		}
	}
	answer(first, &wire.OK{})
	if err := unix.Close(server); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("what was answered: %v", err)
	}
	_, again := errors.AsType[*NotSentError](<-taken)
	if again {
		t.Error("what was read counts as not sent")
	}
	err = <-unread
	if _, again := errors.AsType[*NotSentError](err); !again || !errors.Is(err, errdefs.Unavailable) {
		t.Errorf("what was not read: %v", err)
	}
	err = <-ask()
	if _, again := errors.AsType[*NotSentError](err); !again {
		t.Errorf("what came later: %v", err)
	}
}
