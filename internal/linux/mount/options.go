package mount

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Options are a mount's parsed options.
type Options struct {
	Bind bool // bind or rbind
	// Recursive says rbind: with what is mounted below.
	Recursive bool
	// Set and Clear are MOUNT_ATTR_* of the mount itself, AllSet and AllClear
	// those of everything below it too ("rro").
	Set, Clear       uint64
	AllSet, AllClear uint64
	// Propagation is MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC
	// for everything below; 0: not said.
	Propagation uint64
	// Super are options of the file system, "key" or "key=value".
	Super []string
	// IDMap translates the ids of the mount's files by a user namespace's map
	// ("idmap"), IDMapAll also those of what is mounted below ("ridmap").
	IDMap, IDMapAll bool
	// CopyUp asks for the contents of the directory below ("tmpcopyup").
	CopyUp bool
}

// ReadOnly reports whether the mount itself is read-only.
func (o *Options) ReadOnly() bool { return o.Set&unix.MOUNT_ATTR_RDONLY != 0 }

// Has reports whether a file system option of that name is given.
func (o *Options) Has(key string) bool {
	for _, s := range o.Super {
		if k, _, _ := strings.Cut(s, "="); k == key {
			return true
		}
	}
	return false
}

// attribute returns what an option says about a mount's attributes.
func attribute(name string) (set, clear uint64, ok bool) {
	switch name {
	case "ro":
		set = unix.MOUNT_ATTR_RDONLY
	case "rw":
		clear = unix.MOUNT_ATTR_RDONLY
	case "nosuid":
		set = unix.MOUNT_ATTR_NOSUID
	case "suid":
		clear = unix.MOUNT_ATTR_NOSUID
	case "nodev":
		set = unix.MOUNT_ATTR_NODEV
	case "dev":
		clear = unix.MOUNT_ATTR_NODEV
	case "noexec":
		set = unix.MOUNT_ATTR_NOEXEC
	case "exec":
		clear = unix.MOUNT_ATTR_NOEXEC
	case "nodiratime":
		set = unix.MOUNT_ATTR_NODIRATIME
	case "diratime":
		clear = unix.MOUNT_ATTR_NODIRATIME
	case "nosymfollow":
		set = unix.MOUNT_ATTR_NOSYMFOLLOW
	case "symfollow":
		clear = unix.MOUNT_ATTR_NOSYMFOLLOW
	// The kinds of access time exclude each other; setting one clears the field.
	case "noatime":
		set, clear = unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME
	case "strictatime", "norelatime":
		set, clear = unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME
	case "relatime", "atime", "nostrictatime":
		set, clear = unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME
	default:
		return 0, 0, false
	}
	return set, clear, true
}

func propagation(name string) uint64 {
	switch name {
	case "private":
		return unix.MS_PRIVATE
	case "shared":
		return unix.MS_SHARED
	case "slave":
		return unix.MS_SLAVE
	case "unbindable":
		return unix.MS_UNBINDABLE
	case "rprivate":
		return unix.MS_PRIVATE | unix.MS_REC
	case "rshared":
		return unix.MS_SHARED | unix.MS_REC
	case "rslave":
		return unix.MS_SLAVE | unix.MS_REC
	case "runbindable":
		return unix.MS_UNBINDABLE | unix.MS_REC
	}
	return 0
}

// Propagation returns the flags for a word such as "rslave"; 0 for any other.
func Propagation(name string) uint64 { return propagation(name) }

// Parse sorts options. Later ones win over earlier ones of the same kind. What
// it does not know is the file system's.
func Parse(list []string) *Options {
	o := &Options{}
	for _, name := range list {
		switch name {
		case "", "defaults", "async", "loud", "silent", "nomand", "iversion", "noiversion", "remount":
			// iversion is no word of fsconfig(2): a file system that counts versions
			// does so by itself, or by an option of its own.
			continue
		case "bind":
			o.Bind = true
			continue
		case "rbind":
			o.Bind, o.Recursive = true, true
			continue
		case "idmap", "ridmap":
			o.IDMap, o.IDMapAll = true, name == "ridmap"
			continue
		case "tmpcopyup":
			o.CopyUp = true
			continue
		}
		if p := propagation(name); p != 0 {
			o.Propagation = p
			continue
		}
		if set, clear, ok := attribute(name); ok {
			o.Set, o.Clear = o.Set&^clear&^atime(clear)|set, o.Clear&^set|clear
			continue
		}
		if rest, ok := strings.CutPrefix(name, "r"); ok {
			if set, clear, ok := attribute(rest); ok {
				o.AllSet, o.AllClear = o.AllSet&^clear&^atime(clear)|set, o.AllClear&^set|clear
				continue
			}
		}
		o.Super = append(o.Super, name)
	}
	return o
}

// atime widens a cleared access time field to all of its values.
func atime(clear uint64) uint64 { return clear & unix.MOUNT_ATTR__ATIME }
