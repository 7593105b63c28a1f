package snapshot

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNotUpper(t *testing.T) {
	for magic, want := range map[int64]string{
		unix.NFS_SUPER_MAGIC: "network file system (nfs)", unix.SMB2_SUPER_MAGIC: "network file system (cifs)",
		unix.OVERLAYFS_SUPER_MAGIC: "on an overlay", unix.ECRYPTFS_SUPER_MAGIC: "on ecryptfs",
	} {
		if got := notUpper(magic); !strings.Contains(got, want) {
			t.Errorf("%x: %q, want %q", magic, got, want)
		}
	}
	for _, magic := range []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC} {
		if got := notUpper(magic); got != "" {
			t.Errorf("%x: %q", magic, got)
		}
	}
}
