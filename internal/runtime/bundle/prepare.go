package bundle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/idmap"
	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
	"lade/internal/trace"
)

// Root is a container's root, and what the runtime cannot mount itself, mounted
// nowhere yet.
type Root struct {
	fd   int
	more map[string]int // by the place in the bundle
}

// FD is its descriptor, which stays its own.
func (r *Root) FD() int { return r.fd }

// Close gives it back. What Attached has mounted stays.
func (r *Root) Close() {
	sys.CloseAll(r.fd)
	for _, fd := range r.more {
		sys.CloseAll(fd)
	}
}

// Prepare makes the container's root, and of its specification one that is
// complete without the rest of the description: root, user, network namespace
// and init are in it. The namespace is named by a descriptor of this process,
// so it must stay open until the runtime has joined it. With m, which may be nil,
// root and binds are translated, and the user namespace is named likewise; m must
// stay as long. The caller closes the root. Errors: *runtime.StartError for a user
// that is not there.
func (b *Bundle) Prepare(c *runtime.Container, initPath string, f sys.Features, m *runtime.Mapped) (_ *Root, _ *specs.Spec, err error) {
	fd := -1
	if m != nil {
		fd, err = m.Root(&c.Rootfs)
	} else {
		fd, err = c.Rootfs.Mount(f)
	}
	if err != nil {
		return nil, nil, err
	}
	root := &Root{fd: fd, more: map[string]int{}}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	s := *c.Spec
	if s.Process, err = runtime.Identify(fd, c.User, c.GroupAdd, s.Process); err != nil {
		return nil, nil, err
	}
	s.Root = &specs.Root{Path: b.Rootfs(), Readonly: c.Spec.Root != nil && c.Spec.Root.Readonly}
	if c.Init {
		s = *runtime.WithInit(&s, initPath)
	}
	if s.Mounts, err = b.borrow(root, s.Mounts, m); err != nil {
		return nil, nil, err
	}
	linux := *s.Linux
	s.Linux = &linux
	if m != nil {
		if err := b.open(); err != nil {
			return nil, nil, err
		}
		join(&linux, specs.UserNamespace, m.FD())
		linux.UIDMappings, linux.GIDMappings = m.Lines().UID, m.Lines().GID
		if err := b.WriteJSON(fileIDs, m.Lines()); err != nil {
			return nil, nil, err
		}
		if err := b.GiveStreams(Streams{c.Stdin, c.Stdout, c.Stderr}, s.Process.User); err != nil {
			return nil, nil, err
		}
	}
	// LXC is given a unit's group that is there. OCI runtimes make the unit themselves.
	if scope, ok := cgroup.ParseScope(linux.CgroupsPath); ok && b.Runtime.Kind == KindLXC {
		if linux.CgroupsPath, err = scope.Path(); err != nil {
			return nil, nil, err
		}
	}
	if c.NetNS >= 0 {
		join(&linux, specs.NetworkNamespace, c.NetNS)
	}
	return root, &s, nil
}

// fileIDs has the map of a container with a user namespace.
const fileIDs = "ids.json"

// GiveStreams is runtime.GiveStreams for a container with a user namespace; to
// others it does nothing. What maps the processes of a container without one have
// (gVisor's) is not for us to know.
func (b *Bundle) GiveStreams(streams Streams, user specs.User) error {
	raw, err := os.ReadFile(b.Path(fileIDs))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var ids idmap.Map
	if err == nil {
		err = json.Unmarshal(raw, &ids)
	}
	if err != nil {
		return err
	}
	return runtime.GiveStreams(ids, streams, user.UID, user.GID, user.AdditionalGids)
}

// join makes a namespace one that this process has open.
func join(li *specs.Linux, kind specs.LinuxNamespaceType, fd int) {
	li.Namespaces = slices.DeleteFunc(slices.Clone(li.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == kind })
	li.Namespaces = append(li.Namespaces, specs.LinuxNamespace{Type: kind, Path: ours(fd)})
}

// open lets the root of a user namespace pass to the container's root: a runtime
// goes there by its path, with no power over the host's directories. Errors:
// Conflict for one that is not ours to open.
func (b *Bundle) open() error {
	if err := errors.Join(os.Chmod(filepath.Dir(b.Dir), 0o711), os.Chmod(b.Dir, 0o711)); err != nil {
		return err
	}
	for p := b.Dir; p != "/"; p = filepath.Dir(p) {
		fi, err := os.Stat(p)
		if err != nil {
			return err
		}
		if fi.Mode()&1 == 0 {
			return errdefs.Conflictf("the directory %s keeps the root of user namespaces out, which other runtimes need: chmod o+x, or another --exec-root", p)
		}
	}
	return nil
}

// borrow takes what mounts bind from other processes' mount namespaces, or in a
// way that the runtime does not know of, and binds it from the bundle instead.
func (b *Bundle) borrow(root *Root, mounts []specs.Mount, m *runtime.Mapped) ([]specs.Mount, error) {
	out := slices.Clone(mounts)
	for i := range out {
		if out[i].Type != "bind" {
			continue
		}
		fd, ok, err := runtime.MountOf(out[i].Source)
		if err == nil && !ok && m != nil {
			if fd, ok, err = m.Bind(&out[i]); ok {
				mapped(&out[i])
			}
		}
		if err == nil && !ok && b.ReadOnlyTrees {
			fd, ok, err = runtime.ReadOnlyTree(&out[i])
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		place := b.Path("bind" + strconv.Itoa(i))
		root.more[place], out[i].Source = fd, place
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, sys.Error("fstat", place, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = os.Mkdir(place, 0o700)
		} else {
			err = os.WriteFile(place, nil, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// mapped takes out of a mount what was done.
func mapped(m *specs.Mount) {
	m.UIDMappings, m.GIDMappings = nil, nil
	m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "idmap" || o == "ridmap" })
}

// ours is a path of a descriptor of this process that other processes can use.
func ours(fd int) string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd)
}

// Attached calls f on a thread of its own, in whose mount namespace the root is
// mounted on Rootfs; commands that f starts inherit it. f must not leave its
// goroutine.
func (b *Bundle) Attached(root *Root, f func() error) error {
	done := make(chan error)
	ns.Go(func() {
		err := b.attach(root)
		if err == nil {
			err = f()
		}
		done <- err
	})
	return <-done
}

func (b *Bundle) attach(root *Root) (err error) {
	span := trace.Begin(trace.Mount, "move_mount", b.Rootfs())
	defer func() { err = span.End(err) }()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return sys.Error("unshare", "mount namespace", err)
	}
	if err := isolate(b.Dir); err != nil {
		return err
	}
	for place, fd := range root.more {
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return sys.Error("move_mount", place, err)
		}
	}
	err = unix.MoveMount(root.fd, "", unix.AT_FDCWD, b.Rootfs(), unix.MOVE_MOUNT_F_EMPTY_PATH)
	return sys.Error("move_mount", b.Rootfs(), err)
}

// isolate makes the mount that path is on private in the thread's mount
// namespace, so that what is mounted there does not spread to the host. The
// others stay as they are: binds of the container may want to share.
func isolate(path string) error {
	for p := path; ; p = filepath.Dir(p) {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, p, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
			return sys.Error("statx", p, err)
		}
		if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 || p == "/" {
			return sys.Error("mount", p+" private", unix.Mount("", p, "", unix.MS_PRIVATE, ""))
		}
	}
}
