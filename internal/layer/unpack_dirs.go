package layer

import (
	"archive/tar"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xattr"
)

// parent is an open directory.
type parent struct {
	fd     int
	setgid bool // gives its group to what is created in it
}

// dirEntry is what a directory gets when all its entries are written.
type dirEntry struct {
	name   string
	mode   uint32 // without the type
	xattrs map[string]string
	atime  time.Time
	mtime  time.Time
}

// dirEntries are the directories of a stream, in its order; of two entries for
// one the last counts.
type dirEntries struct {
	all []dirEntry
	at  map[string]int // index in all
}

func (e *dirEntries) put(d dirEntry) {
	if i, ok := e.at[d.name]; ok {
		e.all[i] = d
		return
	}
	e.at[d.name] = len(e.all)
	e.all = append(e.all, d)
}

// openDirs are directories that are open, by their names.
type openDirs map[string]*parent

// close closes all.
func (o openDirs) close() { o.closeBut(nil) }

// closeBut closes all but one.
func (o openDirs) closeBut(keep *parent) {
	for name, p := range o {
		if p != keep {
			unix.Close(p.fd)
			delete(o, name)
		}
	}
}

// directory makes a directory, or takes the one that is there, and remembers
// what it gets at the end.
func (u *unpacker) directory(name string, h *tar.Header) error {
	if name != "" {
		if err := u.mkdir(name); err != nil {
			return err
		}
	}
	uid, gid := u.ownerOf(h)
	d := dirEntry{name: name, mode: uint32(h.Mode) & 0o7777, mtime: h.ModTime, atime: h.AccessTime}
	if d.atime.IsZero() {
		d.atime = d.mtime
	}
	for record, value := range h.PAXRecords {
		if attr, ok := u.attr(record); ok {
			if d.xattrs == nil {
				d.xattrs = make(map[string]string)
			}
			d.xattrs[attr] = value
		}
	}
	if err := u.chownDir(name, uid, gid); err != nil {
		return err
	}
	u.dirs.put(d)
	return nil
}

// mkdir makes the directory name unless it is there.
func (u *unpacker) mkdir(name string) error {
	dir, base := split(name)
	p, err := u.parent(dir)
	if err != nil {
		return err
	}
	err = unix.Mkdirat(p.fd, base, 0o700)
	replaced := false
	if err == unix.EEXIST {
		st, err := lstat(p.fd, base)
		if err != nil {
			return err
		}
		if isDir(&st) {
			if u.lay != nil {
				u.lay.wrote(name)
			}
			return nil
		}
		replaced = true
	}
	if replaced {
		if err := u.place(p, name, base, true, func() error { return unix.Mkdirat(p.fd, base, 0o700) }); err != nil {
			return err
		}
		if u.lay != nil {
			// What made way hid the directory of that name below.
			return u.lay.hideBelow(p.fd, base)
		}
		return nil
	}
	if err == unix.ENAMETOOLONG {
		return errdefs.Invalidf("layer: %.100q: %w", name, err)
	}
	if err == nil && u.lay != nil {
		u.lay.wrote(name)
	}
	return pathError("mkdirat", name, err)
}

func (u *unpacker) chownDir(name string, uid, gid int) error {
	dir, base := split(name)
	p, err := u.parent(dir)
	if err != nil {
		return err
	}
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		flags |= unix.AT_EMPTY_PATH
	} else if uid == u.uid && gid == u.gid && !p.setgid && !u.exact {
		return nil
	}
	if err := unix.Fchownat(p.fd, base, uid, gid, flags); err != nil {
		return chownError(name, uid, gid, err)
	}
	return nil
}

// finishDirs gives the directories their modes, attributes and times.
func (u *unpacker) finishDirs() error {
	for _, d := range u.dirs.all {
		dir, base := split(d.name)
		p, err := u.openDir(dir, false)
		if absent(err) {
			continue // a later entry took its place
		}
		if err != nil {
			return err
		}
		if base == "" {
			base = "."
		}
		if err := u.finishDir(p.fd, base, &d); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) finishDir(fd int, base string, d *dirEntry) error {
	f, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // a later entry took its place
	}
	if err != nil {
		return pathError("openat", d.name, err)
	}
	defer unix.Close(f)
	for attr, value := range d.xattrs {
		if err := u.setXattr(xattr.Set(f, attr, []byte(value)), attr); err != nil {
			return pathError("setxattr", d.name, err)
		}
	}
	if err := unix.Fchmod(f, d.mode); err != nil {
		return pathError("fchmod", d.name, err)
	}
	t := [2]unix.Timespec{timespec(d.atime), timespec(d.mtime)}
	return pathError("utimensat", d.name, unix.UtimesNanoAt(f, "", t[:], unix.AT_EMPTY_PATH))
}

// parent returns the open directory dir, "" for the top. It is made if it is
// missing. The result is valid until the next call.
func (u *unpacker) parent(dir string) (*parent, error) {
	return u.openDir(dir, true)
}

// openDir returns the open directory dir and makes it if create says so.
func (u *unpacker) openDir(dir string, create bool) (*parent, error) {
	if p := u.open[dir]; p != nil {
		return p, nil
	}
	fd, err := openIn(u.root, dir, dirFlags, follow)
	if create && dir != "" && absent(err) {
		fd, err = u.makeParents(dir)
	}
	if errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP) {
		return nil, errdefs.Invalidf("layer: %.100q: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	st, err := lstat(fd, "")
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &parent{fd: fd, setgid: st.Mode&unix.S_ISGID != 0}
	if len(u.open) == parentCache {
		u.open.close()
	}
	u.open[dir] = p
	return p, nil
}

// makeParents walks to dir step by step, follows links and makes what is
// missing: as the layers below have it, else owned by root with mode 0755.
func (u *unpacker) makeParents(dir string) (int, error) {
	todo := strings.Split(dir, "/")
	cur := ""
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			cur, _ = split(cur)
			continue
		}
		next := join(cur, part)
		link, err := u.makeParent(cur, part, next)
		if err != nil {
			return -1, err
		}
		if link == "" {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return -1, errdefs.Invalidf("layer: %q: %w", dir, unix.ELOOP)
		}
		if link[0] == '/' {
			cur = ""
		}
		todo = append(strings.Split(link, "/"), todo...)
	}
	return openIn(u.root, cur, dirFlags, noFollow)
}

// makeParent sees to it that next, which is part in cur, is a directory; if it
// is a link, here or in the layers below, it returns the target instead.
func (u *unpacker) makeParent(cur, part, next string) (link string, err error) {
	fd, err := openIn(u.root, cur, dirFlags, noFollow)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	st, err := lstat(fd, part)
	switch {
	case errors.Is(err, unix.ENOENT):
	case errors.Is(err, unix.ENAMETOOLONG):
		return "", errdefs.Invalidf("layer: %.100q: %w", next, err)
	case err != nil:
		return "", err
	case isDir(&st):
		return "", nil
	case isLink(&st):
		return readlink(fd, part)
	case u.lay == nil || !isWhiteout(&st):
		return "", errdefs.Invalidf("layer: %q: %w", next, unix.ENOTDIR)
	default:
		d := dirEntry{name: next, mode: implied, mtime: time.Now(), atime: time.Now()}
		if err := u.mkdir(next); err != nil {
			return "", err
		}
		return "", u.finishDir(fd, part, &d)
	}
	d := dirEntry{name: next, mode: implied, mtime: time.Now(), atime: time.Now()}
	uid, gid := u.uid, u.gid
	if u.owner != nil {
		uid, gid = u.translate(u.owner.UID, u.owner.GID)
	}
	if u.lay != nil {
		low, ok, err := u.lay.below(next)
		if err != nil {
			return "", err
		}
		if ok && low.link != "" {
			return low.link, nil
		}
		if ok {
			d, uid, gid = low.dirEntry, low.uid, low.gid
		}
	}
	if err := u.mkdir(next); err != nil {
		return "", err
	}
	if err := unix.Fchownat(fd, part, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", chownError(next, uid, gid, err)
	}
	u.dirs.put(d)
	return "", nil
}
