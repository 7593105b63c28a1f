package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// shieldVariable tells the shielded program where its file is, because
// /proc/self/exe no longer does.
const shieldVariable = "LADE_EXECUTABLE"

// Shield makes sure that the calling program cannot be overwritten by a process
// that gets hold of it through /proc/PID/exe (CVE-2019-5736): unless it was
// executed from a read-only mount already, it executes itself again, with the
// same arguments, from one that exists nowhere in the file system. It is to be
// called first thing in main, of every program that starts containers, and
// returns only in the shielded program or with an error.
//
// It costs one execve and no memory. The program's path is in Executable.
func Shield() error {
	self, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.Error("open", "/proc/self/exe", err)
	}
	defer sys.CloseAll(self)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(self, &fs); err != nil {
		return sys.Error("fstatfs", "/proc/self/exe", err)
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		if path := os.Getenv(shieldVariable); path != "" {
			// The kernel could only name it after a descriptor; ps shows this.
			return os.WriteFile("/proc/self/comm", []byte(filepath.Base(path)), 0)
		}
		return nil
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	tree, err := unix.OpenTree(self, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return sys.Error("open_tree", path, err)
	}
	defer sys.CloseAll(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY, Propagation: private}); err != nil {
		return sys.Error("mount_setattr", path, err)
	}
	argv, err := syscall.SlicePtrFromStrings(os.Args)
	if err != nil {
		return err
	}
	env := make([]string, 0, len(os.Environ())+1)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, shieldVariable+"=") {
			env = append(env, e)
		}
	}
	envp, err := syscall.SlicePtrFromStrings(append(env, shieldVariable+"="+path))
	if err != nil {
		return err
	}
	empty := [1]byte{}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(tree), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])), unix.AT_EMPTY_PATH, 0)
	return sys.Error("execveat", path, errno)
}

// Executable returns the path of the running program, shielded or not.
func Executable() (string, error) {
	if p := os.Getenv(shieldVariable); p != "" {
		return p, nil
	}
	return os.Executable()
}
