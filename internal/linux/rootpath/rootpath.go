package rootpath

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Resolve are the flags with which openat2(2) resolves inside a root.
const Resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// retries is how often a race with a rename is tried again; each needs another
// rename or mount in the very moment.
const retries = 1000

// Open opens name inside the directory root. The caller closes the result.
func Open(root int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: Resolve}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode)
	}
	for i := 0; ; i++ {
		fd, err := unix.Openat2(root, name, &how)
		if err != unix.EINTR && (err != unix.EAGAIN || i == retries) {
			return fd, sys.Error("openat2", name, err)
		}
	}
}

// ReadFile returns the contents of the regular file name inside root, at most
// limit bytes. Errors: EFBIG when it is longer, EINVAL when it is no regular
// file.
func ReadFile(root int, name string, limit int64) ([]byte, error) {
	fd, err := Open(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer sys.CloseAll(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, sys.Error("fstat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, sys.Error("read", name, unix.EINVAL)
	}
	if st.Size > limit {
		return nil, sys.Error("read", name, unix.EFBIG)
	}
	b := make([]byte, st.Size+1)
	n := 0
	for n < len(b) {
		var k int
		err := sys.Retry(func() (err error) { k, err = unix.Read(fd, b[n:]); return err })
		if err != nil {
			return nil, sys.Error("read", name, err)
		}
		if k == 0 {
			break
		}
		n += k
	}
	return b[:n], nil
}

// maxLinks is how many symbolic links one path may go through, as in the kernel.
const maxLinks = 40

// MakeAll makes what is missing of the path name inside root: directories with
// mode 0755, and as the last component a directory or, with file, an empty
// file. A dangling symbolic link is followed, inside root, and its target made.
// It is idempotent. Errors: ELOOP, ENOTDIR, EROFS, …
func MakeAll(root int, name string, file bool) error {
	// done is the resolved part, without symbolic links; rest is to be resolved.
	done, rest := "", strings.Trim(path.Clean("/"+name), "/")
	for links := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			done = strings.TrimPrefix(path.Dir("/"+done), "/")
			continue
		}
		target, err := step(root, done, part, file && rest == "")
		if err != nil {
			return err
		}
		if target == "" {
			done = path.Join(done, part)
			continue
		}
		if links++; links > maxLinks {
			return sys.Error("open", name, unix.ELOOP)
		}
		if strings.HasPrefix(target, "/") {
			done = ""
		}
		rest = strings.Trim(target, "/") + "/" + rest
	}
	return nil
}

// step makes part in the directory dir if it is missing, and returns its target
// if it is a symbolic link.
func step(root int, dir, part string, file bool) (string, error) {
	at := root
	if dir != "" {
		var err error
		if at, err = Open(root, dir, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			return "", err
		}
		defer sys.CloseAll(at)
	}
	var err error
	if file {
		err = unix.Mknodat(at, part, unix.S_IFREG|0o644, 0)
	} else {
		err = unix.Mkdirat(at, part, 0o755)
	}
	if err == nil {
		return "", nil
	}
	if err != unix.EEXIST {
		return "", sys.Error("mkdirat", path.Join("/", dir, part), err)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, part, buf)
	if errors.Is(err, unix.EINVAL) {
		return "", nil // not a link
	}
	if err != nil {
		return "", sys.Error("readlinkat", path.Join("/", dir, part), err)
	}
	return string(buf[:n]), nil
}
