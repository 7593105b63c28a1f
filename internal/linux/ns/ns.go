package ns

import (
	goruntime "runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Flag returns the clone(2) flag for a namespace type of the OCI runtime-spec
// ("pid", "network", "mount", …), or 0.
func Flag(kind string) uint64 {
	switch kind {
	case "pid":
		return unix.CLONE_NEWPID
	case "network":
		return unix.CLONE_NEWNET
	case "mount":
		return unix.CLONE_NEWNS
	case "ipc":
		return unix.CLONE_NEWIPC
	case "uts":
		return unix.CLONE_NEWUTS
	case "user":
		return unix.CLONE_NEWUSER
	case "cgroup":
		return unix.CLONE_NEWCGROUP
	case "time":
		return unix.CLONE_NEWTIME
	}
	return 0
}

// File returns the name of the namespace of a kind (CLONE_NEW*) below /proc/PID/ns.
func File(flag uint64) string {
	switch flag {
	case unix.CLONE_NEWPID:
		return "pid"
	case unix.CLONE_NEWNET:
		return "net"
	case unix.CLONE_NEWNS:
		return "mnt"
	case unix.CLONE_NEWIPC:
		return "ipc"
	case unix.CLONE_NEWUTS:
		return "uts"
	case unix.CLONE_NEWUSER:
		return "user"
	case unix.CLONE_NEWCGROUP:
		return "cgroup"
	}
	return "time"
}

// Open returns a descriptor of a namespace of process pid (0: the caller's
// thread). The caller closes it.
func Open(pid int, flag uint64) (int, error) {
	who := "thread-self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	path := "/proc/" + who + "/ns/" + File(flag)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd, sys.Error("open", path, err)
}

// OwnDir is where a process without threads finds the namespaces that it is in.
const OwnDir = "/proc/self/ns"

// ID identifies a namespace while it exists.
type ID struct{ dev, ino uint64 }

// Of returns which namespace of a kind process pid (0: the caller's thread) is in.
func Of(pid int, flag uint64) (ID, error) {
	who := "thread-self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	return At("/proc/" + who + "/ns/" + File(flag))
}

// At returns which namespace a path leads to.
func At(path string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ID{}, sys.Error("stat", path, err)
	}
	return ID{st.Dev, st.Ino}, nil
}

// Same reports whether process pid is in the same namespace as the caller.
func Same(pid int, flag uint64) (bool, error) {
	mine, err := Of(0, flag)
	if err != nil {
		return false, err
	}
	theirs, err := Of(pid, flag)
	return mine == theirs, err
}

// Owned reports whether a namespace, given by descriptor, belongs to the caller's
// user namespace or one below: who has all capabilities has them over it.
//
// Source: ioctl_ns(2), NS_GET_USERNS.
func Owned(fd int) bool {
	owner, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	sys.CloseAll(owner)
	return true
}

// Empty makes a mount namespace whose only mount is an empty directory in
// memory, plus /null, the device of that name, and /empty, a directory in which
// nothing can be made: what containers hide paths with. It returns its
// descriptor, which the caller closes.
func Empty() (fd int, err error) {
	// The thread that makes it ends with it, but not before it was named.
	made, named := make(chan error), make(chan struct{})
	tid := 0
	Go(func() {
		tid = unix.Gettid()
		made <- enterEmpty()
		<-named
	})
	err = <-made
	if err == nil {
		fd, err = Open(tid, unix.CLONE_NEWNS)
	}
	close(named)
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// enterEmpty moves the calling thread, for good, to what Empty describes.
func enterEmpty() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return sys.Error("unshare", "mount namespace", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return sys.Error("mount", "/ private", err)
	}
	null, err := openNull()
	if err != nil {
		return err
	}
	defer sys.CloseAll(null)
	root, err := memory("", 0)
	if err != nil {
		return err
	}
	defer sys.CloseAll(root)
	empty, err := memory("1", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer sys.CloseAll(empty)
	if err := unix.Mkdirat(root, "empty", 0o555); err != nil {
		return sys.Error("mkdirat", "empty", err)
	}
	if err := unix.Mknodat(root, "null", unix.S_IFREG, 0); err != nil {
		return sys.Error("mknodat", "null", err)
	}
	// Attached first, because before Linux 6.15 nothing can be mounted on what
	// is not.
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return sys.Error("move_mount", "/", err)
	}
	if err := unix.MoveMount(empty, "", root, "empty", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return sys.Error("move_mount", "/empty", err)
	}
	if err := unix.MoveMount(null, "", root, "null", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return sys.Error("move_mount", "/null", err)
	}
	if err := unix.Fchdir(root); err != nil {
		return sys.Error("fchdir", "/", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return sys.Error("pivot_root", ".", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return sys.Error("umount2", "the host's root", err)
	}
	return sys.Error("chdir", "/", unix.Chdir("/"))
}

// Attached calls f while the detached mount root is attached in a mount
// namespace of its own, a copy of the caller's, on a thread that is in it; it
// returns the descriptor of a detached copy of what f made of the tree, which
// the caller closes. root itself is of no use after that. It is for kernels
// before Linux 6.15, where nothing can be mounted on what is detached. f must
// not leave its goroutine.
func Attached(root int, f func() error) (fd int, err error) {
	done := make(chan struct{})
	Go(func() {
		defer close(done)
		fd, err = attached(root, f)
	})
	<-done
	return fd, err
}

func attached(root int, f func() error) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, sys.Error("unshare", "mount namespace", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, sys.Error("mount", "/ private", err)
	}
	// It covers the namespace's root, but not for this thread.
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, sys.Error("move_mount", "/", err)
	}
	if err := f(); err != nil {
		return -1, err
	}
	fd, err := unix.OpenTree(root, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	return fd, sys.Error("open_tree", "the attached tree", err)
}

// openNull clones the mount of the null device and makes sure that it is one.
func openNull() (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/dev/null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, sys.Error("open_tree", "/dev/null", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		sys.CloseAll(fd)
		return -1, sys.Error("open_tree", "/dev/null", unix.ENODEV)
	}
	return fd, nil
}

// memory makes a tmpfs for at most inodes files ("": no limit) and returns its
// mount, attached nowhere.
func memory(inodes string, attrs int) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, sys.Error("fsopen", "tmpfs", err)
	}
	defer sys.CloseAll(fs)
	if inodes != "" {
		if err := unix.FsconfigSetString(fs, "nr_inodes", inodes); err != nil {
			return -1, sys.Error("fsconfig", "nr_inodes", err)
		}
	}
	if err := unix.FsconfigSetString(fs, "mode", "0555"); err != nil {
		return -1, sys.Error("fsconfig", "mode", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, sys.Error("fsconfig", "tmpfs", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return fd, sys.Error("fsmount", "tmpfs", err)
}

// Within calls f on a thread that is in the mount namespace mnt, a descriptor,
// with that one's root. f must not leave its goroutine.
func Within(mnt int, f func() error) error {
	done := make(chan error)
	Go(func() {
		// The file system attributes are shared with the other threads, which
		// forbids to enter: setns(2).
		err := sys.Error("unshare", "file system attributes", unix.Unshare(unix.CLONE_FS))
		if err == nil {
			err = sys.Error("setns", "mount namespace", unix.Setns(mnt, unix.CLONE_NEWNS))
		}
		if err == nil {
			err = f()
		}
		done <- err
	})
	return <-done
}

// Go runs f in a goroutine on a thread of its own, which ends with it: f may
// change the thread's namespaces and need not change them back. It is never the
// process's first thread, which cannot end and whose namespaces are what
// /proc/self shows.
func Go(f func()) {
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds the first thread the next one gets another.
			away := make(chan struct{})
			go func() {
				goruntime.LockOSThread()
				close(away)
				f()
			}()
			<-away
			goruntime.UnlockOSThread()
			return
		}
		f() // never unlocked
	}()
}
