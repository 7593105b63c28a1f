package mount

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	o := Parse([]string{"rbind", "ro", "rw", "ro", "nosuid", "rprivate", "rro", "size=64k", "mode=1777", "noatime", "strictatime", "newinstance"})
	if !o.Bind || !o.Recursive || !o.ReadOnly() || o.Set&unix.MOUNT_ATTR_NOSUID == 0 || o.Clear&unix.MOUNT_ATTR_RDONLY != 0 {
		t.Errorf("%+v", o)
	}
	if o.Propagation != unix.MS_PRIVATE|unix.MS_REC || o.AllSet != unix.MOUNT_ATTR_RDONLY {
		t.Errorf("%+v", o)
	}
	if !slices.Equal(o.Super, []string{"size=64k", "mode=1777", "newinstance"}) || !o.Has("size") || o.Has("siz") {
		t.Errorf("%+v", o)
	}
	if o.Set&unix.MOUNT_ATTR__ATIME != unix.MOUNT_ATTR_STRICTATIME {
		t.Errorf("access time %x", o.Set)
	}
	// "relatime" is no recursive "elatime", and "rw" no recursive "w".
	if o := Parse([]string{"relatime", "rw"}); o.AllSet|o.AllClear != 0 || len(o.Super) != 0 {
		t.Errorf("%+v", o)
	}
}
