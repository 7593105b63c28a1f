package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// The limits of a frame, in bytes and in descriptors.
const (
	HeaderLen = 16
	Inline    = 64 << 10 // a longer body travels in a memfd
	MaxBody   = 64 << 20
	MaxFiles  = 128 // the kernel's SCM_MAX_FD is 253

	// PacketLen is the size of the buffer that Receive needs.
	PacketLen = HeaderLen + Inline
)

const (
	magic      = "lade"
	flagMemfd  = 1
	knownFlags = flagMemfd

	seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
)

// Header is the fixed part of a frame.
type Header struct {
	Type    Type
	Request uint32 // 0: an event
	Length  int    // of the body
	memfd   bool
}

// Frame is a received frame. Its descriptors are close-on-exec and belong to
// the receiver, who takes them by File and must Close the rest.
type Frame struct {
	Header
	Body  []byte // JSON
	files []int  // -1: taken
}

// Parse splits a packet into header and body. The body, empty if it travels
// in a memfd, aliases packet. Errors: Invalid.
func Parse(packet []byte) (Header, []byte, error) {
	if len(packet) < HeaderLen {
		return Header{}, nil, errdefs.Invalidf("supervisor protocol: a packet of %d bytes is shorter than a header", len(packet))
	}
	if string(packet[:4]) != magic {
		return Header{}, nil, errdefs.Invalidf("supervisor protocol: not a frame")
	}
	if packet[4] != Version {
		return Header{}, nil, errdefs.Invalidf("supervisor protocol: version %d is not spoken here, only %d", packet[4], Version)
	}
	if packet[5]&^knownFlags != 0 {
		return Header{}, nil, errdefs.Invalidf("supervisor protocol: unknown flags %#x", packet[5])
	}
	n := binary.LittleEndian.Uint32(packet[12:])
	h := Header{
		Type:    Type(binary.LittleEndian.Uint16(packet[6:])),
		Request: binary.LittleEndian.Uint32(packet[8:]),
		memfd:   packet[5]&flagMemfd != 0,
	}
	body := packet[HeaderLen:]
	switch {
	case n > MaxBody:
		return Header{}, nil, errdefs.Invalidf("supervisor protocol: a body of %d bytes is too long", n)
	case h.memfd && len(body) != 0, !h.memfd && len(body) != int(n):
		return Header{}, nil, errdefs.Invalidf("supervisor protocol: %d bytes of body where %d were announced", len(body), n)
	}
	h.Length = int(n)
	return h, body, nil
}

// append appends the header's encoding to b.
func (h Header) append(b []byte) []byte {
	var flags byte
	if h.memfd {
		flags = flagMemfd
	}
	b = append(b, magic...)
	b = append(b, Version, flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(h.Type))
	b = binary.LittleEndian.AppendUint32(b, h.Request)
	return binary.LittleEndian.AppendUint32(b, uint32(h.Length))
}

// Packet is an encoded frame that Send can send, more than once if it must
// wait. Files stay the caller's; a memfd is the packet's, until Close.
type Packet struct {
	bytes []byte
	oob   []byte
	memfd int // -1: none
}

// NewPacket encodes a message (see TypeOf) as a frame that carries files.
// Errors: Invalid for too long a body or too many files; of memfd_create(2).
func NewPacket(request uint32, msg any, files []int) (*Packet, error) {
	typ := TypeOf(msg)
	if typ == 0 {
		return nil, errdefs.Internalf("supervisor protocol: %T is no message", msg)
	}
	body, err := json.Marshal(msg)
	if err != nil {
		return nil, err
	}
	if len(body) > MaxBody {
		return nil, errdefs.Invalidf("supervisor protocol: %v has a body of %d bytes, the limit is %d", typ, len(body), MaxBody)
	}
	if len(files) > MaxFiles {
		return nil, errdefs.Invalidf("supervisor protocol: %v carries %d descriptors, the limit is %d", typ, len(files), MaxFiles)
	}
	p := &Packet{memfd: -1}
	h := Header{Type: typ, Request: request, Length: len(body), memfd: len(body) > Inline}
	if h.memfd {
		if p.memfd, err = sealed(body); err != nil {
			return nil, err
		}
		files = append(files[:len(files):len(files)], p.memfd)
		body = nil
	}
	p.bytes = append(h.append(make([]byte, 0, HeaderLen+len(body))), body...)
	if len(files) > 0 {
		p.oob = unix.UnixRights(files...)
	}
	return p, nil
}

// SetFiles replaces the packet's files, by as many, for a Send after the ones
// it was made with may be closed.
func (p *Packet) SetFiles(files []int) {
	if p.memfd >= 0 {
		files = append(files[:len(files):len(files)], p.memfd)
	}
	if len(files) > 0 {
		p.oob = unix.UnixRights(files...)
	}
}

// Send sends the packet with the given flags of sendmsg(2); the error is the
// bare errno, EAGAIN if the socket does not block and is full.
func (p *Packet) Send(socket, flags int) error {
	for {
		_, err := unix.SendmsgN(socket, p.bytes, p.oob, nil, flags|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// Close releases the packet's memfd.
func (p *Packet) Close() {
	if p.memfd >= 0 {
		unix.Close(p.memfd)
		p.memfd = -1
	}
}

// sealed returns a memfd with the content body that nobody can change.
func sealed(body []byte) (int, error) {
	fd, err := unix.MemfdCreate("lade-frame", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	for len(body) > 0 {
		n, err := unix.Write(fd, body)
		if err != nil && err != unix.EINTR {
			unix.Close(fd)
			return -1, os.NewSyscallError("write memfd", err)
		}
		body = body[max(n, 0):]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return fd, nil
}

// unseal reads a body of n bytes from a memfd. What is not sealed is refused:
// its owner could cut it while it is read.
func unseal(fd, n int) ([]byte, error) {
	if s, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil || s&seals != seals {
		return nil, errdefs.Invalidf("supervisor protocol: the body's file is not a sealed memfd")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Size != int64(n) {
		return nil, errdefs.Invalidf("supervisor protocol: %d bytes of body where %d were announced", st.Size, n)
	}
	body := make([]byte, n)
	for at := 0; at < n; {
		k, err := unix.Pread(fd, body[at:], int64(at))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, os.NewSyscallError("pread", err)
		case k == 0:
			return nil, io.ErrUnexpectedEOF
		default:
			at += k
		}
	}
	return body, nil
}

// Receive receives a frame into buf, which holds at least PacketLen bytes;
// the frame's body is valid until buf is used again. flags are those of
// recvmsg(2). Errors: io.EOF when the peer has closed, a bare errno of
// recvmsg(2) (EAGAIN), Invalid for what is no frame; then every descriptor
// that came is closed and the connection is of no more use.
func Receive(socket int, buf []byte, flags int) (*Frame, error) {
	oob := make([]byte, unix.CmsgSpace(4*(MaxFiles+1)))
	var n, oobn, got int
	for {
		var err error
		n, oobn, got, _, err = unix.Recvmsg(socket, buf, oob, flags|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	files, err := rights(oob[:oobn])
	f := &Frame{files: files}
	if n == 0 && len(files) == 0 && err == nil {
		return nil, io.EOF
	}
	if err == nil && got&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errdefs.Invalidf("supervisor protocol: a packet was cut short")
	}
	if err == nil {
		f.Header, f.Body, err = Parse(buf[:n])
	}
	if err == nil && f.memfd {
		if len(files) == 0 {
			err = errdefs.Invalidf("supervisor protocol: the body's memfd is missing")
		} else {
			last := files[len(files)-1]
			f.Body, err = unseal(last, f.Length)
			f.files = files[:len(files)-1]
			unix.Close(last)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// rights returns the descriptors in the control messages of a packet, even
// when it also returns an error.
func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	var files []int
	for i := range msgs {
		if fds, e := unix.ParseUnixRights(&msgs[i]); e == nil {
			files = append(files, fds...)
		} else {
			err = errors.Join(err, e)
		}
	}
	return files, err
}

// Decode decodes the body into msg, a pointer to a zero value. Errors: Invalid.
func (f *Frame) Decode(msg any) error {
	if err := unmarshal(f.Body, msg); err != nil {
		return errdefs.Invalidf("supervisor protocol: %v: %w", f.Type, err)
	}
	return nil
}

// File hands over the descriptor that fd names; it is -1 for 0 (none).
// Errors: Invalid if the frame does not carry it or it was taken before.
func (f *Frame) File(fd FD) (int, error) {
	if fd == 0 {
		return -1, nil
	}
	if fd < 0 || int(fd) > len(f.files) || f.files[fd-1] < 0 {
		return -1, errdefs.Invalidf("supervisor protocol: %v names descriptor %d of %d", f.Type, fd, len(f.files))
	}
	got := f.files[fd-1]
	f.files[fd-1] = -1
	return got, nil
}

// Close closes the descriptors that were not taken.
func (f *Frame) Close() {
	for i, fd := range f.files {
		if fd >= 0 {
			unix.Close(fd)
			f.files[i] = -1
		}
	}
}
