package selfpipe

import (
	"os"
	"os/signal"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func wait(t *testing.T, p *Pipe) []unix.Signal {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(p.FD()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 5000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Fatalf("no signal: %v", err)
		}
		return p.Read()
	}
}

// Signals arrive whatever the program does meanwhile, and afterwards they are
// the Go runtime's again.
func TestSignals(t *testing.T) {
	old := make(chan os.Signal, 1)
	signal.Notify(old, unix.SIGUSR2)
	defer signal.Stop(old)
	p, err := New(unix.SIGUSR1, unix.SIGUSR2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(unix.SIGHUP); err == nil {
		t.Error("a second pipe")
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		var keep [][]byte
		for {
			select {
			case <-stop:
				return
			default:
				if keep = append(keep, make([]byte, 1<<16)); len(keep) > 64 {
					keep = nil
					runtime.GC()
				}
			}
		}
	}()
	for i := range 300 {
		s := []unix.Signal{unix.SIGUSR1, unix.SIGUSR2}[i%2]
		if err := unix.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, p); len(got) != 1 || got[0] != s {
			t.Fatalf("%d: %v", i, got)
		}
	}
	close(stop)
	<-done
	if len(p.Read()) != 0 || len(old) != 0 {
		t.Error("a signal that nobody has sent")
	}
	p.Close()
	if err := unix.Kill(os.Getpid(), unix.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old:
	case <-time.After(30 * time.Second):
		t.Error("the signal is lost")
	}
}
