package server

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// counter is a watcher that takes what is there and counts.
type counter struct{ fd, n int }

func (c *counter) ready(uint32) {
	var b [8]byte
	if n, _ := unix.Read(c.fd, b[:]); n > 0 {
		c.n += n
	}
}

// A long wait in which the code is given back sees what a plain one sees: what is
// there, what comes late, mail from other goroutines, and the time.
func TestSleep(t *testing.T) {
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if p.code = codeMappings(); len(p.code) < 2 {
		t.Fatalf("%d mappings of code and tables", len(p.code))
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer closeFDs(pipe[0], pipe[1])
	c := &counter{fd: pipe[0]}
	if err := p.set(pipe[0], c, unix.EPOLLIN); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(pipe[1], []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := p.once(); err != nil || c.n != 1 {
		t.Errorf("what was there: %d, %v", c.n, err)
	}
	const late = fallsAsleep + 100*time.Millisecond
	due, began := false, time.Now()
	p.after(late, func() { due = true })
	for !due {
		if err := p.once(); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < late {
		t.Errorf("a timer of %v went after %v", late, took)
	}
	mail := false
	time.AfterFunc(late, func() { p.post(func() { mail = true }) })
	for !mail {
		if err := p.once(); err != nil {
			t.Fatal(err)
		}
	}
	if p.code == nil {
		t.Error("the kernel does not take the code back")
	}
}
