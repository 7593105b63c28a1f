package terminal

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// fder is what a stream that may be a terminal provides.
type fder interface{ Fd() uintptr }

func terminalFd(v any) (int, bool) {
	f, ok := v.(fder)
	if !ok {
		return -1, false
	}
	fd := int(f.Fd())
	return fd, term.IsTerminal(fd)
}

// In is the standard input.
type In struct {
	io.Reader
	fd  int
	tty bool

	mu    sync.Mutex
	saved *term.State // not nil while raw
}

// NewIn wraps r, which is a terminal if it is a file that is one.
func NewIn(r io.Reader) *In {
	i := &In{Reader: r}
	if r == nil {
		i.Reader = eof{}
	}
	i.fd, i.tty = terminalFd(r)
	return i
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// IsTerminal reports whether the input is a terminal.
func (i *In) IsTerminal() bool { return i.tty }

// Check refuses to attach something else than a terminal to a container's.
func (i *In) Check(attach, tty bool) error {
	if attach && tty && !i.tty {
		return errors.New("the input device is not a TTY")
	}
	return nil
}

// Raw passes every key on as it is. It does nothing without a terminal, or where
// the environment has NORAW. Restore undoes it.
func (i *In) Raw() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.tty || i.saved != nil || os.Getenv("NORAW") != "" {
		return nil
	}
	s, err := term.MakeRaw(i.fd)
	i.saved = s
	return err
}

// Restore brings back the mode that Raw left. It is idempotent.
func (i *In) Restore() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.saved != nil {
		_ = term.Restore(i.fd, i.saved)
		i.saved = nil
	}
}

// ReadPassword prompts on out and reads a line without echo.
func (i *In) ReadPassword(out io.Writer, prompt string) (string, error) {
	if _, err := io.WriteString(out, prompt); err != nil {
		return "", err
	}
	b, err := term.ReadPassword(i.fd)
	_, _ = io.WriteString(out, "\n")
	return string(b), err
}

// Out is a standard output.
type Out struct {
	io.Writer
	fd  int
	tty bool
}

// NewOut wraps w, which is a terminal if it is a file that is one.
func NewOut(w io.Writer) *Out {
	o := &Out{Writer: w}
	o.fd, o.tty = terminalFd(w)
	return o
}

// IsTerminal reports whether the output is a terminal.
func (o *Out) IsTerminal() bool { return o.tty }

// Size is the terminal's height and width in characters; zero without one.
func (o *Out) Size() (height, width uint) {
	if !o.tty {
		return 0, 0
	}
	w, h, err := term.GetSize(o.fd)
	if err != nil {
		return 0, 0
	}
	return uint(h), uint(w)
}

// Resized delivers a value whenever the window changes, until stop is called.
func Resized() (changed <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	return c, func() { signal.Stop(c) }
}

// Colours reports whether text on o may be coloured: it is a terminal that can,
// and the user did not say NO_COLOR (https://no-color.org).
func Colours(o *Out) bool {
	return o.tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
