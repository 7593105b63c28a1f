package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"lade/internal/linux/pty"
	"lade/internal/linux/sys"
)

// terminal connects a container's terminal with the caller's standard streams.
type terminal struct {
	master *os.File // nil: there is none
	stdin  *os.File
	state  *term.State // of standard input; nil: it is no terminal
	copied chan struct{}
}

// takeTerminal starts to copy between the master side and the standard streams,
// and switches a terminal on standard input to raw mode.
func (a *app) takeTerminal(master int) (*terminal, error) {
	if master < 0 {
		return &terminal{}, nil
	}
	fd, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, sys.Error("fcntl", "terminal", err)
	}
	t := &terminal{master: os.NewFile(uintptr(fd), "terminal"), stdin: a.stdin, copied: make(chan struct{})}
	if in := int(a.stdin.Fd()); term.IsTerminal(in) {
		if t.state, err = term.MakeRaw(in); err != nil {
			t.master.Close()
			return nil, err
		}
	}
	t.resize()
	go func() { _, _ = io.Copy(t.master, a.stdin) }() // ends with the program
	go func() {
		defer close(t.copied)
		_, _ = io.Copy(a.stdout, t.master) // ends with EIO when the last process has closed it
	}()
	return t, nil
}

// resize gives the container's terminal the size of the caller's.
func (t *terminal) resize() {
	if t.master == nil || t.state == nil {
		return
	}
	if w, h, err := term.GetSize(int(t.stdin.Fd())); err == nil {
		_ = pty.Resize(int(t.master.Fd()), uint16(h), uint16(w)) // it may be gone already
	}
}

// release waits for the last output and restores the caller's terminal.
func (t *terminal) release() {
	if t.master == nil {
		return
	}
	<-t.copied
	if t.state != nil {
		_ = term.Restore(int(t.stdin.Fd()), t.state) // nobody is left to tell
	}
	t.master.Close()
}
