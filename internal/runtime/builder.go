package runtime

import (
	"encoding/binary"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/cgroup"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// builder compiles one start into a program.
type builder struct {
	l *Launcher
	p *program.Program

	fds    []int // to close when the start is over
	stages []stage

	place place
	root  int // the container's root: a detached mount, or a directory (foreign)
	null  ref // sources of masks, in the copy of the empty mount namespace
	empty ref
	proc  ref // the container's own procfs
	dev   ref // its own /dev, if that is a fresh tmpfs
	// fresh are the directories of file systems made by this program: nobody
	// else can have put a symbolic link there.
	fresh map[string]ref
	// kernel are procfs and sysfs by where they are mounted, as long as nothing
	// covers them.
	kernel   map[string]ref
	attached ref // what attach and attachTo have attached last
	// readOnly are mounts to be closed to writing when all is in place.
	readOnly []ref
	pts      int // devpts with the terminal
	console  int // slave side of the terminal, or -1
	master   int
	group    *cgroup.Group
	home     *cgroup.Group // where the processes are: group, or what is delegated below it
	tasks    []int         // files of the group to write to
	leaf     int           // file of the group below home to write to afterwards, or -1
	resctrl  []string      // directories of that file system that were made

	ready    *readiness // nil: nobody waits for lade-init
	park     *parking   // nil: the program runs through
	listener *listener  // nil: the filter hands nothing over
	guard    *guard     // nil: nobody in the container may trace
	user     *user      // nil: that of the caller
	maps     []mapping
	time     bool // with a time namespace of its own
	// mountLabel is the SELinux context of what is mounted for the container;
	// empty: none.
	mountLabel string

	// made are the ops that open what ensure has made; make is what must be made
	// beforehand.
	made map[int]target

	ordered bool     // Container.Ordered
	order   *inOrder // nil: mounts of the host have the numbers that they have
	make    *target

	stocks          bool // takes from the stock, and says what it wants of it
	ipc, ipcStocked bool // with an IPC namespace of its own; one of the stock
	filled          int  // the /dev of the stock, if it is that
	kit             *kit // what the container's user namespace has ready; nil: nothing
	wants           list

	preserve int    // descriptors after the three standard ones that are handed on
	path     string // executed instead of what the arguments name

	argv0     string
	execFirst int
	execs     int
	statOp    int
	statBuf   []byte

	addr struct{ empty, dir, plain, any, dot, zero uint64 } // often needed arguments
}

// ref is a descriptor as the program sees it: known now, or the result of an op
// (of either of two, when there are two ways).
type ref struct {
	fd int // if no op has succeeded
	op [2]program.Op
}

func known(fd int) ref                { return ref{fd: fd} }
func result(op ...program.Op) (r ref) { copy(r.op[:], op); return r }

func (r ref) valid() bool { return r.op[0].Valid() || r.fd > 0 }

const (
	atCWD     = ^uint64(99) // AT_FDCWD
	attempts  = 1000        // for openat2 against racing renames
	fileLimit = 0xffffffff  // last descriptor, for close_range(2)
	allPaths  = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
)

func newBuilder(l *Launcher, p *program.Program) *builder {
	b := &builder{l: l, p: p, root: -1, console: -1, master: -1, leaf: -1, stages: make([]stage, 0, 64), fds: make([]int, 0, 32)}
	b.addr.empty = p.String("")
	b.addr.dot = p.String(".")
	b.addr.zero = p.String("0")
	b.addr.dir = p.Words(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, rootpath.Resolve)
	b.addr.plain = p.Words(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, rootpath.Resolve|unix.RESOLVE_NO_SYMLINKS)
	b.addr.any = p.Words(unix.O_PATH|unix.O_CLOEXEC, 0, rootpath.Resolve)
	return b
}

func (b *builder) close() {
	sys.CloseAll(b.fds...)
	if b.kit != nil {
		b.kit.close()
	}
}

// own remembers a descriptor to close when the start is over.
func (b *builder) own(fd int) int {
	if fd >= 0 {
		b.fds = append(b.fds, fd)
	}
	return fd
}

// stage says what the ops from here on are for.
func (b *builder) stage(what, path string) {
	b.stages = append(b.stages, stage{first: b.p.Len(), what: what, path: path})
}

// internal says that the ops from here on fail only by our own fault.
func (b *builder) internal() {
	b.stages = append(b.stages, stage{first: b.p.Len(), own: true})
}

// sys appends an op whose first argument is a descriptor.
func (b *builder) sys(call, object string, nr uintptr, dir ref, args ...uint64) program.Op {
	var a [6]uint64
	copy(a[1:], args)
	a[0] = uint64(dir.fd)
	o := b.p.Sys(call, object, nr, a[:]...)
	b.into(dir, o, 0)
	return o
}

// into passes a descriptor as argument i of o.
func (b *builder) into(r ref, o program.Op, i int) {
	for _, from := range r.op {
		if from.Valid() {
			from.Into(o, i)
		}
	}
}

// openat2 opens a path of the container.
func (b *builder) openat2(p string, how uint64) program.Op {
	return b.openIn(known(b.root), p, how)
}

// openIn opens a path below dir, as which the path's root counts.
func (b *builder) openIn(dir ref, p string, how uint64) program.Op {
	return b.sys("openat2", p, unix.SYS_OPENAT2, dir, b.p.String(p), how, 24).Retry(attempts)
}

// ensure opens a path of the container, after making what is missing of it:
// directories, and with file an empty file as the last component.
func (b *builder) ensure(p string, file bool) ref {
	if p == "" || p == "/" {
		return known(b.root)
	}
	if file {
		return b.ensureAs(p, true, b.addr.any)
	}
	return b.ensureAs(p, false, b.addr.dir)
}

// ensureAs is ensure with a struct open_how of its own.
func (b *builder) ensureAs(p string, file bool, how uint64) ref {
	first := b.openat2(p, how).Allow(unix.ENOENT)
	for i := 1; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			continue
		}
		parent, name := path.Split(p[:i])
		dir := known(b.root)
		if parent != "/" {
			dir = result(b.openat2(parent, b.addr.dir))
		}
		if file && i == len(p) {
			b.sys("mknodat", p[:i], unix.SYS_MKNODAT, dir, b.p.String(name), unix.S_IFREG|0o755, 0).Allow(unix.EEXIST)
		} else {
			b.sys("mkdirat", p[:i], unix.SYS_MKDIRAT, dir, b.p.String(name), 0o755).Allow(unix.EEXIST)
		}
	}
	again := b.openat2(p, how)
	if b.made == nil {
		b.made = map[int]target{}
	}
	b.made[again.Index()] = target{p, file}
	first.ThenNext()
	return result(first, again)
}

// attach puts the detached mount from at the path dest, which is made if it is
// missing.
func (b *builder) attach(from ref, dest string, file bool) {
	b.attached = from
	parent, name := path.Split(dest)
	if dir, ok := b.fresh[strings.TrimSuffix(parent, "/")]; ok {
		// Nothing there is anybody else's: no need to resolve.
		at := b.p.String(name)
		if file {
			b.sys("mknodat", dest, unix.SYS_MKNODAT, dir, at, unix.S_IFREG|0o755, 0).Allow(unix.EEXIST)
		} else {
			b.sys("mkdirat", dest, unix.SYS_MKDIRAT, dir, at, 0o755).Allow(unix.EEXIST)
		}
		o := b.sys("move_mount", dest, unix.SYS_MOVE_MOUNT, from, b.addr.empty, uint64(dir.fd), at, unix.MOVE_MOUNT_F_EMPTY_PATH)
		b.into(dir, o, 2)
		return
	}
	b.attachTo(from, b.ensure(dest, file), dest)
}

// attachTo puts the detached mount from on what to refers to.
func (b *builder) attachTo(from, to ref, dest string) program.Op {
	b.attached = from
	o := b.sys("move_mount", dest, unix.SYS_MOVE_MOUNT, from, b.addr.empty, uint64(to.fd), b.addr.empty, allPaths)
	b.into(to, o, 2)
	return o
}

// filesystem makes a file system and returns its detached mount. An option
// "source=…" is the name that mountinfo shows.
func (b *builder) filesystem(kind string, options []string, attrs uint64) ref {
	_, mount := b.newFilesystem(kind, options, attrs)
	return result(mount)
}

// newFilesystem is filesystem with the ops whose results are the configuration's
// descriptor and the mount's.
func (b *builder) newFilesystem(kind string, options []string, attrs uint64) (context, mount program.Op) {
	context = b.p.Sys("fsopen", kind, unix.SYS_FSOPEN, b.p.String(kind), unix.FSOPEN_CLOEXEC)
	fs := result(context)
	for _, o := range options {
		if k, v, ok := strings.Cut(o, "="); ok {
			b.sys("fsconfig", o, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, b.p.String(k), b.p.String(v), 0)
		} else {
			b.sys("fsconfig", o, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, b.p.String(k), 0, 0)
		}
	}
	b.sys("fsconfig", kind, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	return context, b.sys("fsmount", kind, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, attrs)
}

// cloneTree clones the mount that r refers to.
func (b *builder) cloneTree(r ref, object string, flags uint64) ref {
	return result(b.sys("open_tree", object, unix.SYS_OPEN_TREE, r, b.addr.empty, flags|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH))
}

// attributes sets MOUNT_ATTR_* on the mount that r refers to.
func (b *builder) attributes(r ref, object string, set uint64, flags uint64) program.Op {
	return b.sys("mount_setattr", object, unix.SYS_MOUNT_SETATTR, r, b.addr.empty, flags|unix.AT_EMPTY_PATH, b.p.Words(set, 0, 0, 0), 32)
}

// write opens a file below dir, which must be a procfs, and writes value. No
// link and no mount is crossed on the way.
func (b *builder) write(dir ref, name, value string, resolve uint64) program.Op {
	how := b.p.Words(unix.O_WRONLY|unix.O_CLOEXEC, 0, resolve|unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_MAGICLINKS)
	fd := b.sys("open", "/proc/"+name, unix.SYS_OPENAT2, dir, b.p.String(name), how, 24).Retry(attempts)
	return b.sys("write", "/proc/"+name, unix.SYS_WRITE, result(fd), b.p.String(value), uint64(len(value)))
}

func (b *builder) command() string { return b.argv0 }

// isDirectory tells what the file is that could not be executed.
func (b *builder) isDirectory() bool {
	// struct statx: stx_mode is at offset 28.
	return b.statBuf != nil && binary.NativeEndian.Uint16(b.statBuf[28:])&unix.S_IFMT == unix.S_IFDIR
}
