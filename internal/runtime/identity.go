package runtime

import (
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/mount"
	"lade/internal/linux/overlay"
	"lade/internal/linux/sys"
)

// What a Launcher does on the way from a container's description to its process
// and another runtime expects to be done: the root, the user, lade-init.

// Mount makes the root as a detached mount, whose descriptor is the caller's to
// close.
func (r *Rootfs) Mount(f sys.Features) (fd int, err error) {
	if len(r.Lower) > 0 {
		return overlay.Mount(overlay.Options{Lower: r.Lower, Upper: r.Upper, Work: r.Work, Volatile: r.Volatile, Context: r.Context}, f)
	}
	return cloneHost(r.Path, &mount.Options{Bind: true, Recursive: true})
}

// MountOf clones the mounts at a path that another process sees, given as
// /proc/PID/root/…, because mount(2) takes nothing from another mount namespace.
// ok is false for any other path. The descriptor is the caller's to close.
func MountOf(source string) (fd int, ok bool, err error) {
	pid, p, ok := ofProcess(source)
	if !ok {
		return -1, false, nil
	}
	fd, err = cloneWithin(pid, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	return fd, true, err
}

// ReadOnlyTree clones the source of a bind that is read-only with all that is
// mounted below it ("rro"), for runtimes that know mount(2) only, where that is of
// the topmost mount. ok is false for other mounts. The descriptor is the caller's
// to close.
func ReadOnlyTree(m *specs.Mount) (fd int, ok bool, err error) {
	o := mount.Parse(m.Options)
	if o.AllSet&unix.MOUNT_ATTR_RDONLY == 0 {
		return -1, false, nil
	}
	fd, err = cloneHost(m.Source, &mount.Options{Bind: true, Recursive: o.Recursive, Propagation: o.Propagation, AllSet: o.AllSet, AllClear: o.AllClear})
	return fd, err == nil, err
}

// Identify returns p with the numbers of its user and with HOME, both looked up
// in the container whose root directory is open as root; user and groupAdd are
// as in Container. p stays as it is. Errors: *StartError for a name that is not
// there.
func Identify(root int, user string, groupAdd []string, p *specs.Process) (*specs.Process, error) {
	id, err := whoami(root, user, groupAdd, &p.User, false)
	if err != nil {
		return nil, err
	}
	out := *p
	out.User = specs.User{UID: id.UID, GID: id.GID, AdditionalGids: slices.Clone(id.Groups), Umask: p.User.Umask}
	out.Env = environment(p.Env, id.Home)
	return &out, nil
}

// WithInit returns a specification that runs lade-init, which is at path on the
// host, as process 1, and the command of s as its child. s stays as it is.
func WithInit(s *specs.Spec, path string) *specs.Spec {
	out, proc := *s, *s.Process
	out.Mounts = append(slices.Clip(s.Mounts), specs.Mount{
		Destination: initPath, Type: "bind", Source: path, Options: []string{"bind", "ro", "nosuid", "nodev"},
	})
	proc.Args = append([]string{initPath, "--"}, s.Process.Args...)
	out.Process = &proc
	return &out
}

// Codes of StartError for a command, for launchers that learn of it by words.
const (
	NotExecutable = codeNotExecutable
	NotFound      = codeNotFound
	Failed        = codeFailed
)

// HoldRoot returns Process.Root of a process that no Launcher has started; 0 if its
// root is no overlay.
func HoldRoot(pid, pidfd int) int {
	root, err := OpenRoot(pid, pidfd)
	if err != nil {
		return 0 // it has ended
	}
	var st unix.Statfs_t
	if unix.Fstatfs(root, &st) != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		sys.CloseAll(root)
		return 0
	}
	return root
}

// OpenRoot opens the root directory of the process pid as it sees it, provided
// that pidfd says that it is still the same. The caller closes it.
func OpenRoot(pid, pidfd int) (int, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/root"
	root, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, sys.Error("open", path, err)
	}
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		sys.CloseAll(root)
		return -1, sys.Error("pidfd_send_signal", path, err)
	}
	return root, nil
}
