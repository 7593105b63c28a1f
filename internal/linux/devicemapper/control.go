package devicemapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// Commands of dm-ioctl.h, in the ioctl that _IOWR(0xfd, n, struct dm_ioctl) makes.
const (
	request       = 0xc138fd00
	listDevices   = 2
	devCreate     = 3
	devRemove     = 4
	devSuspend    = 6
	devStatus     = 7
	tableLoad     = 9
	tableStatus   = 12
	listVersions  = 13
	targetMessage = 14
)

// Bits of dm_ioctl.flags.
const (
	readOnly       = 1 << 0
	suspended      = 1 << 1
	activePresent  = 1 << 5
	bufferFull     = 1 << 8
	deferredRemove = 1 << 17
)

// leaveAlone are the flags for udev's rules in the upper half of event_nr:
// DM_UDEV_DISABLE_{DM,SUBSYSTEM,DISK,OTHER}_RULES_FLAG of libdevmapper.
const leaveAlone = 0xf << 16

// header is struct dm_ioctl.
type header struct {
	version     [3]uint32
	dataSize    uint32
	dataStart   uint32
	targetCount uint32
	openCount   int32
	flags       uint32
	event       uint32
	_           uint32
	dev         uint64
	name        [128]byte
	uuid        [129]byte
	_           [7]byte
}

const headerSize = 312

// specSize is the size of struct dm_target_spec.
const specSize = 40

// Device is the number of a device, as stat(2) tells it.
type Device uint64

// String returns the device as tables name it, MAJOR:MINOR.
func (d Device) String() string {
	return strconv.Itoa(int(unix.Major(uint64(d)))) + ":" + strconv.Itoa(int(unix.Minor(uint64(d))))
}

// Path returns the device's node.
func (d Device) Path() string { return "/dev/dm-" + strconv.Itoa(int(unix.Minor(uint64(d)))) }

// Target is a line of a table.
type Target struct {
	Start, Sectors uint64 // of 512 bytes
	Type           string
	Params         string
}

// Control is the device mapper.
type Control struct{ f *os.File }

// Open opens the device mapper. The caller must Close it. Errors: Unavailable if
// the kernel has none.
func Open() (*Control, error) {
	f, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, errdefs.Unavailablef("the kernel has no device mapper (module dm_mod): %w", err)
	}
	return &Control{f}, nil
}

// Close closes it. Devices stay.
func (c *Control) Close() error { return c.f.Close() }

// call makes one call: the fields of h say of which device, data follows it.
// It returns what follows the header in the answer.
func (c *Control) call(cmd uintptr, h *header, data []byte) ([]byte, error) {
	for size := 16 << 10; ; size *= 2 {
		buf := make([]byte, max(size, headerSize+len(data)))
		q := *h
		q.version = [3]uint32{4, 0, 0}
		q.dataSize, q.dataStart = uint32(len(buf)), headerSize
		*(*header)(unsafe.Pointer(&buf[0])) = q
		copy(buf[headerSize:], data)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.f.Fd(), request|cmd, uintptr(unsafe.Pointer(&buf[0])))
		runtime.KeepAlive(c)
		if errno != 0 {
			return nil, errno
		}
		*h = *(*header)(unsafe.Pointer(&buf[0]))
		if h.flags&bufferFull == 0 {
			end := min(int(h.dataSize), len(buf))
			return buf[min(int(h.dataStart), end):end], nil
		}
	}
}

// named is the header of a call for a device by name.
func named(name string) (*header, error) {
	h := &header{}
	if name == "" || len(name) >= len(h.name) || strings.Contains(name, "/") {
		return nil, errdefs.Invalidf("%q cannot be the name of a device", name)
	}
	copy(h.name[:], name)
	return h, nil
}

// Has reports whether the kernel has a target, such as "thin-pool".
func (c *Control) Has(target string) bool {
	b, err := c.call(listVersions, &header{}, nil)
	for err == nil && len(b) > 16 { // dm_target_versions: next, version[3], name
		if text(b[16:]) == target {
			return true
		}
		next := binary.NativeEndian.Uint32(b)
		if next == 0 || int(next) > len(b) {
			break
		}
		b = b[next:]
	}
	return false
}

// text reads a string that ends with a zero.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// List returns the devices there are, by name.
func (c *Control) List() (map[string]Device, error) {
	b, err := c.call(listDevices, &header{}, nil)
	if err != nil {
		return nil, os.NewSyscallError("DM_LIST_DEVICES", err)
	}
	all := map[string]Device{}
	for len(b) > 12 { // dm_name_list: dev, next, name
		dev, next := binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint32(b[8:])
		if dev != 0 {
			all[text(b[12:])] = Device(dev)
		}
		if next == 0 || int(next) > len(b) {
			break
		}
		b = b[next:]
	}
	return all, nil
}

// Find returns the device of a name; found is false if there is none.
func (c *Control) Find(name string) (d Device, found bool, err error) {
	h, err := c.status(name)
	return Device(h.dev), h.dev != 0, err
}

// Live is Find for a device that answers: it has a table and is not suspended.
func (c *Control) Live(name string) (d Device, live bool, err error) {
	h, err := c.status(name)
	return Device(h.dev), h.flags&activePresent != 0 && h.flags&suspended == 0, err
}

// status asks for the state of a device; of none that state is empty.
func (c *Control) status(name string) (header, error) {
	h, err := named(name)
	if err != nil {
		return header{}, err
	}
	_, err = c.call(devStatus, h, nil)
	if errors.Is(err, unix.ENXIO) {
		return header{}, nil
	}
	if err != nil {
		return header{}, sys.Error("DM_DEV_STATUS", name, err)
	}
	return *h, nil
}

// Recover is Find for a device that a process may have left half made when it
// died: one without a table is removed, one that is suspended goes on.
func (c *Control) Recover(name string) (d Device, found bool, err error) {
	h, err := c.status(name)
	if err != nil || h.dev == 0 {
		return 0, false, err
	}
	d = Device(h.dev)
	switch {
	case h.flags&activePresent == 0:
		return 0, false, c.Remove(name)
	case h.flags&suspended != 0:
		return d, true, c.Resume(d)
	}
	return d, true, nil
}

// Create makes a device with a table that takes effect at once. On error there
// is none. Errors: the chain holds EBUSY for a name that is taken.
func (c *Control) Create(name string, ro bool, table ...Target) (Device, error) {
	h, err := named(name)
	if err != nil {
		return 0, err
	}
	h.event = leaveAlone
	sp := trace.Begin(trace.Mount, "dm create", name)
	if _, err := c.call(devCreate, h, nil); err != nil {
		return 0, sp.End(sys.Error("DM_DEV_CREATE", name, err))
	}
	d := Device(h.dev)
	if err = c.Load(d, ro, table...); err == nil {
		err = c.Resume(d)
	}
	if err != nil {
		err = errors.Join(err, c.remove(name, 0))
	}
	return d, sp.End(err)
}

// Load gives a device another table, from the next Resume on.
func (c *Control) Load(d Device, ro bool, table ...Target) error {
	h := &header{dev: uint64(d), targetCount: uint32(len(table))}
	if ro {
		h.flags = readOnly
	}
	var data []byte
	for _, t := range table {
		size := (specSize + len(t.Params) + 1 + 7) &^ 7
		b := make([]byte, size)
		binary.NativeEndian.PutUint64(b, t.Start)
		binary.NativeEndian.PutUint64(b[8:], t.Sectors)
		binary.NativeEndian.PutUint32(b[20:], uint32(size)) // next, from this one
		copy(b[24:specSize-1], t.Type)
		copy(b[specSize:], t.Params)
		data = append(data, b...)
	}
	_, err := c.call(tableLoad, h, data)
	return sys.Error("DM_TABLE_LOAD", d.String(), err)
}

// Suspend holds back what is written to a device, after a file system on it was
// brought to rest.
func (c *Control) Suspend(d Device) error {
	_, err := c.call(devSuspend, &header{dev: uint64(d), flags: suspended, event: leaveAlone}, nil)
	return sys.Error("DM_DEV_SUSPEND", d.String(), err)
}

// Resume lets a device go on, with the table that was loaded last.
func (c *Control) Resume(d Device) error {
	_, err := c.call(devSuspend, &header{dev: uint64(d), event: leaveAlone}, nil)
	return sys.Error("DM_DEV_SUSPEND", d.String()+" resume", err)
}

// Status returns what the first target of a device says of itself.
func (c *Control) Status(d Device) (string, error) {
	b, err := c.call(tableStatus, &header{dev: uint64(d)}, nil)
	if err != nil {
		return "", sys.Error("DM_TABLE_STATUS", d.String(), err)
	}
	if len(b) < specSize {
		return "", nil
	}
	return text(b[specSize:]), nil
}

// Message tells the target of a device something.
func (c *Control) Message(d Device, message string) error {
	data := make([]byte, 8, 8+len(message)+1) // dm_target_msg: sector 0
	data = append(append(data, message...), 0)
	sp := trace.Begin(trace.Mount, "dm message", d.String()+" "+message)
	_, err := c.call(targetMessage, &header{dev: uint64(d)}, data)
	return sp.End(sys.Error("DM_TARGET_MSG", d.String()+" "+message, err))
}

func (c *Control) remove(name string, flags uint32) error {
	h, err := named(name)
	if err != nil {
		return err
	}
	h.flags, h.event = flags, leaveAlone
	_, err = c.call(devRemove, h, nil)
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	return sys.Error("DM_DEV_REMOVE", name, err)
}
