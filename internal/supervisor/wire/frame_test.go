package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

func pair(t testing.TB) (int, int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func exchange(t *testing.T, msg any, files []int) *Frame {
	t.Helper()
	a, b := pair(t)
	p, err := NewPacket(7, msg, files)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Send(a, 0); err != nil {
		t.Fatal(err)
	}
	f, err := Receive(b, make([]byte, PacketLen), 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRoundTrip(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "inline": Inline - 100, "memfd": Inline + 1, "large": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			before := openFiles(t)
			want := Signal{ID: strings.Repeat("x", size), Signal: 9}
			f := exchange(t, &want, []int{int(r.Fd()), int(w.Fd())})
			var got Signal
			if err := f.Decode(&got); err != nil || got != want {
				t.Fatalf("the message changed (%v)", err)
			}
			if f.Type != TypeSignal || f.Request != 7 {
				t.Errorf("header %+v", f.Header)
			}
			fd, err := f.File(2)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(fd, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 5)
			if _, err := io.ReadFull(r, b); err != nil || string(b) != "hello" {
				t.Errorf("read %q, %v", b, err)
			}
			if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
				t.Error("a received descriptor is inherited by programs")
			}
			unix.Close(fd)
			if _, err := f.File(2); !errors.Is(err, errdefs.Invalid) {
				t.Errorf("a descriptor was taken twice: %v", err)
			}
			if _, err := f.File(3); !errors.Is(err, errdefs.Invalid) {
				t.Errorf("a descriptor that is not there: %v", err)
			}
			if fd, err := f.File(0); fd != -1 || err != nil {
				t.Errorf("File(0) = %d, %v", fd, err)
			}
			f.Close()
			if n := openFiles(t) - 2; n != before { // the socket pair is still open
				t.Errorf("%d descriptors, were %d", n, before)
			}
		})
	}
}

func TestReceiveRefuses(t *testing.T) {
	head := func(change func(b []byte)) []byte {
		b := Header{Type: TypeOK, Length: 2}.append(nil)
		b = append(b, "{}"...)
		change(b)
		return b
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	loose, err := unix.MemfdCreate("loose", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(loose)
	big := Header{Type: TypeOK, Length: Inline + 1, memfd: true}.append(nil)
	for name, tc := range map[string]struct {
		packet []byte
		files  []int
	}{
		"short":         {packet: []byte("lade")},
		"magic":         {packet: head(func(b []byte) { b[0] = 'L' })},
		"version":       {packet: head(func(b []byte) { b[4]++ })},
		"flags":         {packet: head(func(b []byte) { b[5] = 2 })},
		"length":        {packet: head(func(b []byte) { b[12] = 3 })},
		"memfd missing": {packet: big},
		"not a memfd":   {packet: big, files: []int{int(null.Fd())}},
		"not sealed":    {packet: big, files: []int{loose}},
		"truncated":     {packet: make([]byte, PacketLen+1)},
		"too many":      {packet: head(func([]byte) {}), files: slicesOf(int(null.Fd()), MaxFiles+8)},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			before := openFiles(t)
			var oob []byte
			if tc.files != nil {
				oob = unix.UnixRights(tc.files...)
			}
			if err := unix.Sendmsg(a, tc.packet, oob, nil, 0); err != nil {
				t.Fatal(err)
			}
			if f, err := Receive(b, make([]byte, PacketLen), 0); !errors.Is(err, errdefs.Invalid) {
				t.Errorf("%+v, %v", f, err)
			}
			if n := openFiles(t); n != before {
				t.Errorf("%d descriptors, were %d", n, before)
			}
		})
	}
}

func slicesOf(fd, n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = fd
	}
	return s
}

func TestReceiveEnd(t *testing.T) {
	a, b := pair(t)
	if _, err := Receive(b, make([]byte, PacketLen), unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Errorf("nothing there: %v", err)
	}
	unix.Shutdown(a, unix.SHUT_WR)
	if _, err := Receive(b, make([]byte, PacketLen), 0); err != io.EOF {
		t.Errorf("closed: %v", err)
	}
}

func TestErrorKeepsKind(t *testing.T) {
	m := NewError(errdefs.NotFoundf("exec: %q: not there", "x"), 127)
	if err := m.Err(); !errors.Is(err, errdefs.NotFound) || err.Error() != `exec: "x": not there` || m.Code != 127 {
		t.Errorf("%+v: %v", m, err)
	}
}

func TestTypeNames(t *testing.T) {
	for _, msg := range []any{
		Hello{}, PutFilter{}, Start{}, Exec{}, Attach{}, Signal{}, Resize{}, Freeze{}, Update{}, Forget{}, Adopt{},
		Duplicate{}, Upgrade{}, Shutdown{}, OK{}, Error{}, Welcome{}, Started{}, Exited{}, OOM{}, SetResolver{}, SetNames{}, ClearLog{},
	} {
		typ := TypeOf(msg)
		if typ == 0 || strings.HasPrefix(typ.String(), "Type(") {
			t.Errorf("%T has no type", msg)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(append(Header{Type: TypeStart, Request: 1, Length: 2}.append(nil), "{}"...))
	f.Add(Header{Type: TypeStart, Request: 1, Length: 1 << 20, memfd: true}.append(nil))
	f.Add([]byte("lade"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		h, body, err := Parse(packet)
		if err != nil {
			return
		}
		if back := append(h.append(nil), body...); !bytes.Equal(back, packet) {
			t.Errorf("%x became %x", packet, back)
		}
		fr := Frame{Header: h, Body: body}
		var s Start
		_ = fr.Decode(&s)
		var e Exited
		_ = fr.Decode(&e)
	})
}

func BenchmarkExchange(b *testing.B) {
	x, y := pair(b)
	buf := make([]byte, PacketLen)
	msg := &Exited{ID: strings.Repeat("a", 64), Pid: 4242}
	for b.Loop() {
		p, err := NewPacket(1, msg, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Send(x, 0); err != nil {
			b.Fatal(err)
		}
		f, err := Receive(y, buf, 0)
		if err != nil {
			b.Fatal(err)
		}
		var got Exited
		if err := f.Decode(&got); err != nil {
			b.Fatal(err)
		}
	}
}
