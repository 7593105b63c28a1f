package runtime

import (
	goruntime "runtime"
	"slices"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// stock is what a Launcher has ready for its next start, made while nobody waits
// (Restock): what does not depend on the container, as most of them are started
// alike. An IPC namespace takes as long to make as three quarters of the rest of
// the clone; a /dev with its devices is 35 system calls. For those with a user
// namespace there are kits.
//
// Everything in it is as the start would have made it, nothing was in it before,
// and it is used once. It is known by descriptors alone: nothing is left of it
// when the process ends, however it ends.
type stock struct {
	making sync.Mutex // held while something is made; before mu
	home   int        // our own IPC namespace, or 0; guarded by making

	mu     sync.Mutex
	closed bool
	wants  [2]list // of the last start, and of the last one with a user namespace
	ipc    int     // an IPC namespace, or 0
	ready  []lot   // mounts, those of kind mqueue in ipc
	// kits that are to be made, and that are, the youngest last
	expected, kits []*kit
	used           []int // descriptors that take long to close
}

// list is what of a start can be made beforehand.
type list struct {
	ipc    bool
	mounts []lot // without descriptors
}

// lot is a file system that is mounted nowhere yet.
type lot struct {
	kind    string
	options string // separated by NUL
	attrs   uint64
	inside  contents
	fd      int
}

// contents is what is in a new file system.
type contents int

const (
	nothing contents = iota
	defaultDev
	cgroupDirs // what hierarchies of version 1 are mounted on
)

// split is the inverse of joined.
func (a lot) split() []string {
	if a.options == "" {
		return nil
	}
	return strings.Split(a.options, "\x00")
}

func (a lot) same(b lot) bool { a.fd = b.fd; return a == b }

// stocked returns a mount that is ready, if there is one, and notes that it was
// wanted.
func (b *builder) stocked(kind string, options []string, attrs uint64, inside contents) (ref, bool) {
	if !b.stocks || kind == "mqueue" && !b.ipc { // not in a namespace of its own
		return ref{}, false
	}
	l := lot{kind: kind, options: joined(options), attrs: attrs, inside: inside}
	b.wants.mounts = append(b.wants.mounts, l)
	if kind == "mqueue" && !b.ipcStocked {
		return ref{}, false
	}
	fd, ok := -1, false
	if b.user == nil {
		fd, ok = b.l.stock.take(l)
	} else if b.kit != nil {
		fd, ok = takeLot(&b.kit.lots, l)
	}
	if !ok {
		return ref{}, false
	}
	return known(b.own(fd)), true
}

// joined makes options comparable.
func joined(options []string) string { return strings.Join(options, "\x00") }

func (s *stock) take(l lot) (fd int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return takeLot(&s.ready, l)
}

// takeLot takes a mount out of those that are ready.
func takeLot(ready *[]lot, l lot) (fd int, ok bool) {
	i := slices.IndexFunc(*ready, l.same)
	if i < 0 {
		return -1, false
	}
	fd = (*ready)[i].fd
	*ready = slices.Delete(*ready, i, i+1)
	return fd, true
}

// stockedNamespace returns a namespace for a container that wants one of its own, if
// one of that kind is ready.
func (b *builder) stockedNamespace(kind uint64) (fd int, ok bool) {
	if !b.stocks || kind != unix.CLONE_NEWIPC {
		return -1, false
	}
	b.ipc, b.wants.ipc = true, true
	s := &b.l.stock
	s.mu.Lock()
	defer s.mu.Unlock()
	from := &s.ipc
	if b.user != nil {
		if b.kit == nil {
			return -1, false
		}
		from = &b.kit.ipc
	}
	if *from == 0 {
		return -1, false
	}
	fd, *from = *from, 0
	b.ipcStocked = true
	return b.own(fd), true
}

// ordered notes what a start that succeeded has wanted.
func (s *stock) ordered(w list, user bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if user {
		s.wants[1] = w
	} else {
		s.wants[0] = w
	}
}

// Restock makes what the next start will want, if it is like the last one. It is
// meant for the moment when that one was answered, and closes what that has left
// to close. What cannot be made the start makes itself.
func (l *Launcher) Restock() {
	s := &l.stock
	s.closeUsed()
	if !s.making.TryLock() {
		return // somebody does
	}
	defer s.making.Unlock()
	ipc, missing := s.missing()
	if ipc {
		if err := s.makeIPC(&missing); err != nil {
			l.log.Debug("nothing in stock", "error", err)
		}
	}
	for _, m := range missing {
		if m.kind == "mqueue" {
			continue
		}
		if err := m.make(l); err != nil {
			l.log.Debug("nothing in stock", "error", err)
			return
		}
		s.put(m)
	}
	l.makeKits()
}

// closeLater leaves it to Restock to close the descriptor of a detached mount. It
// is unmounted then, which waits for every processor, 50 µs and more.
func (l *Launcher) closeLater(fd int) {
	if l.o.Once { // nobody restocks
		sys.CloseAll(fd)
		return
	}
	l.stock.mu.Lock()
	defer l.stock.mu.Unlock()
	l.stock.used = append(l.stock.used, fd)
}

func (s *stock) closeUsed() {
	s.mu.Lock()
	used := s.used
	s.used = nil
	s.mu.Unlock()
	sys.CloseAll(used...)
}

// missing returns what is wanted and not there, and closes what is there and not
// wanted. The mounts of kind mqueue are there when their namespace is.
func (s *stock) missing() (ipc bool, mounts []lot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, nil
	}
	wants := s.wants[0].ipc
	if s.ipc > 0 && !wants {
		sys.CloseAll(s.ipc)
		s.ipc = 0
	}
	ipc = wants && s.ipc == 0
	rest := s.ready
	s.ready = nil
	for _, w := range s.wants[0].mounts {
		i := slices.IndexFunc(rest, w.same)
		switch {
		case w.kind == "mqueue" && ipc, w.kind != "mqueue" && i < 0:
			mounts = append(mounts, w)
		case i >= 0:
			s.ready = append(s.ready, rest[i])
			rest = slices.Delete(rest, i, i+1)
		}
	}
	for _, r := range rest {
		sys.CloseAll(r.fd)
	}
	return ipc, mounts
}

func (s *stock) put(l lot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		sys.CloseAll(l.fd)
		return
	}
	s.ready = append(s.ready, l)
}

// makeIPC makes an IPC namespace and the message queue file systems that are
// wanted of it.
func (s *stock) makeIPC(wanted *[]lot) (err error) {
	span := trace.Begin(trace.Process, "unshare", "ipc namespace")
	if s.home == 0 {
		if s.home, err = ns.Open(0, unix.CLONE_NEWIPC); err != nil {
			s.home = 0
			return span.End(err)
		}
	}
	// Of this thread alone. Should it not come back it stays locked, and ends with
	// its goroutine.
	goruntime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWIPC); err != nil {
		goruntime.UnlockOSThread()
		return span.End(sys.Error("unshare", "ipc namespace", err))
	}
	fd, err := ns.Open(0, unix.CLONE_NEWIPC)
	var queues []lot
	for _, l := range *wanted {
		if err == nil && l.kind == "mqueue" {
			if err = l.mount(); err == nil {
				queues = append(queues, l)
			}
		}
	}
	if back := unix.Setns(s.home, unix.CLONE_NEWIPC); back == nil {
		goruntime.UnlockOSThread()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.closed {
		sys.CloseAll(fd)
		for _, q := range queues {
			sys.CloseAll(q.fd)
		}
		return span.End(err)
	}
	s.ipc, s.ready = fd, append(s.ready, queues...)
	return span.End(nil)
}

// make makes a file system with its contents.
func (l *lot) make(launcher *Launcher) error {
	if err := l.mount(); err != nil {
		return err
	}
	var err error
	switch l.inside {
	case defaultDev:
		err = fillDev(l.fd)
	case cgroupDirs:
		err = fillCgroups(l.fd, launcher.hierarchies())
	}
	if err != nil {
		sys.CloseAll(l.fd)
	}
	return err
}

// mount makes the file system.
func (l *lot) mount() (err error) {
	span := trace.Begin(trace.Mount, "fsmount", l.kind)
	defer func() { err = span.End(err) }()
	fs, err := unix.Fsopen(l.kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return sys.Error("fsopen", l.kind, err)
	}
	defer sys.CloseAll(fs)
	for _, o := range l.split() {
		if k, v, ok := strings.Cut(o, "="); ok {
			err = unix.FsconfigSetString(fs, k, v)
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return sys.Error("fsconfig", o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return sys.Error("fsconfig", l.kind, err)
	}
	l.fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(l.attrs))
	return sys.Error("fsmount", l.kind, err)
}

// fillDev makes the devices and links that are in every /dev. A mode is given
// once more, as the umask of this process is taken off the first time.
func fillDev(dir int) error {
	for _, d := range defaultDevices() {
		name := strings.TrimPrefix(d.path, "/dev/")
		err := unix.Mknodat(dir, name, d.kind|d.mode, int(unix.Mkdev(d.major, d.minor)))
		if err == nil {
			err = unix.Fchmodat(dir, name, d.mode, 0)
		}
		if err != nil {
			return sys.Error("mknodat", d.path, err)
		}
	}
	for _, l := range devLinks() {
		if err := unix.Symlinkat(l[0], dir, l[1]); err != nil {
			return sys.Error("symlinkat", "/dev/"+l[1], err)
		}
	}
	return nil
}

// fillCgroups makes a directory for each hierarchy, and links.
func fillCgroups(dir int, all []hierarchy) error {
	for _, h := range all {
		if err := unix.Mkdirat(dir, h.name, 0o755); err != nil {
			return sys.Error("mkdirat", h.name, err)
		}
		for _, also := range h.also {
			if err := unix.Symlinkat(h.name, dir, also); err != nil {
				return sys.Error("symlinkat", also, err)
			}
		}
	}
	return nil
}

// plainDev reports whether a container has every default device and link as it
// is.
func plainDev(s *specs.Spec) bool {
	for _, d := range s.Linux.Devices {
		for _, o := range defaultDevices() {
			if inside(d.Path) == o.path {
				return false
			}
		}
		for _, l := range devLinks() {
			if inside(d.Path) == "/dev/"+l[1] {
				return false
			}
		}
	}
	return true
}

// close closes everything. What is being made is waited for.
func (s *stock) close() {
	s.closeUsed()
	s.making.Lock()
	defer s.making.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, r := range s.ready {
		sys.CloseAll(r.fd)
	}
	s.ready = nil
	s.closeKits()
	if s.ipc > 0 {
		sys.CloseAll(s.ipc)
	}
	if s.home > 0 {
		sys.CloseAll(s.home)
	}
}
