package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// TestStorage opens drivers as the options say.
func TestStorage(t *testing.T) {
	need.Root(t)
	log := slog.New(slog.DiscardHandler)
	for _, tc := range []struct {
		driver, option string
		want           string // driver, or else part of an error of that kind
		kind           errdefs.Kind
		checked        bool // by validate already
	}{
		{driver: "overlay", want: "overlay2"},
		{driver: "overlay2", option: "overlay2.override_kernel_check=true", want: "overlay2"},
		{driver: "vfs", want: "vfs"},
		{driver: "floppy", want: `unknown storage driver "floppy"`, kind: errdefs.Invalid, checked: true},
		{driver: "overlay2", option: "overlay2.color=red", want: "overlay2: unknown option overlay2.color", kind: errdefs.Invalid, checked: true},
		{driver: "overlay2", option: "dm.fs=xfs", want: "unknown option dm.fs", kind: errdefs.Invalid, checked: true},
		{driver: "overlay2", option: "size", want: "KEY=VALUE", kind: errdefs.Invalid, checked: true},
		{driver: "overlay2", option: "overlay2.size=much", want: "invalid size", kind: errdefs.Invalid, checked: true},
		{driver: "devicemapper", option: "dm.fs=ntfs", want: "unsupported filesystem", kind: errdefs.Invalid},
		{driver: "btrfs", want: "needs it to be on btrfs", kind: errdefs.Unavailable},
		{driver: "zfs", want: "needs it to be on zfs", kind: errdefs.Unavailable},
		{driver: "vfs", option: "vfs.size=1G", want: "no project quota", kind: errdefs.Invalid},
	} {
		t.Run(tc.driver+" "+tc.option, func(t *testing.T) {
			// Memory has no quotas and is neither btrfs nor zfs.
			root, err := os.MkdirTemp("/dev/shm", "lade-test-storage-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(root)
			c := &Config{Paths: Paths{DataRoot: root}, Storage: Storage{StorageDriver: tc.driver}}
			if tc.option != "" {
				c.StorageOptions = []string{tc.option}
			}
			if err := c.Storage.validate(); (err != nil) != tc.checked {
				t.Errorf("validate: %v", err)
			}
			s, err := openStorage(t.Context(), c, log)
			if tc.kind != 0 {
				if errdefs.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v (%v), want %q", err, errdefs.KindOf(err), tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Name() != tc.want || s.why != "it was asked for" {
				t.Errorf("%s: %s", s.Name(), s.why)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStorageBefore opens the driver that was used before.
func TestStorageBefore(t *testing.T) {
	need.Root(t)
	log := slog.New(slog.DiscardHandler)
	c := &Config{Paths: Paths{DataRoot: filepath.Join(t.TempDir(), "data")}}
	c.StorageDriver = "vfs"
	s, err := openStorage(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Prepare(t.Context(), "box", "")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.StorageDriver = ""
	if s, err = openStorage(t.Context(), c, log); err != nil {
		t.Fatal(err)
	}
	if s.Name() != "vfs" || !strings.Contains(s.why, "before") {
		t.Errorf("%s: %s", s.Name(), s.why)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if all, _, err := surveyStorage(c.DataRoot, log); err != nil || len(all) != 1 || all[0].Key != "box" {
		t.Errorf("%v, %v", all, err)
	}
}
