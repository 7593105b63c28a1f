package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

func TestReadRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "os-release")
	text := "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID='22'\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := ReadRelease(path); r.ID != "linuxmint" || !slices.Equal(r.Like, []string{"ubuntu", "debian"}) {
		t.Errorf("%+v", r)
	}
	if r := ReadRelease(path + ".missing"); r.ID != "" || r.Like != nil {
		t.Errorf("%+v", r)
	}
}

func TestPreference(t *testing.T) {
	for _, tc := range []struct {
		id, like, backing, want string
	}{
		{"ubuntu", "debian", "extfs", "overlay2 vfs"},
		{"centos", "rhel fedora", "xfs", "overlay2 vfs"},
		{"fedora", "", "btrfs", "overlay2 btrfs vfs"},
		{"debian", "", "extfs", "overlay2 aufs devicemapper vfs"},
		{"debian", "", "zfs", "overlay2 zfs aufs devicemapper vfs"},
		{"raspbian", "debian", "extfs", "overlay2 aufs devicemapper vfs"},
		{"linuxmint", "ubuntu debian", "extfs", "overlay2 vfs"},
		{"", "", "tmpfs", "overlay2 vfs"},
	} {
		got := Release{tc.id, strings.Fields(tc.like)}.preference(tc.backing)
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s on %s: %s, want %s", tc.id, tc.backing, s, tc.want)
		}
	}
}

func TestChoose(t *testing.T) {
	works := map[string]bool{}
	var all []Candidate
	for _, n := range []string{"overlay2", "btrfs", "zfs", "devicemapper", "aufs", "vfs"} {
		all = append(all, Candidate{n, func(dir string) error {
			if works[n] {
				return nil
			}
			return errdefs.Unavailablef("no %s here", n)
		}})
	}
	debian := Release{ID: "debian"}
	choose := func(root, want, because string) {
		t.Helper()
		name, reason, err := Choose(root, debian, all)
		if err != nil || name != want || !strings.Contains(reason, because) {
			t.Errorf("%q because %q (%v), want %q because %q", name, reason, err, want, because)
		}
	}
	root := filepath.Join(t.TempDir(), "root")
	if _, _, err := Choose(root, debian, all); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("%v", err)
	}
	works["vfs"] = true
	choose(root, "vfs", "no devicemapper here")
	works["devicemapper"] = true
	choose(root, "devicemapper", "no overlay2 here; aufs: no aufs here")
	works["overlay2"] = true
	choose(root, "overlay2", "first of debian")
	record := func(driver, name string) {
		t.Helper()
		dir := filepath.Join(root, driver, "keys")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	record("vfs", ".record") // opened, never used
	choose(root, "overlay2", "first of debian")
	record("btrfs", "key.1..c.0")
	choose(root, "btrfs", "before")
	record("vfs", "key.1..c.0")
	if _, _, err := Choose(root, debian, all); errdefs.KindOf(err) != errdefs.Invalid || !strings.Contains(err.Error(), "btrfs, vfs") {
		t.Errorf("%v", err)
	}
}
