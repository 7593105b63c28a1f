package passwd

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

func files(m map[string]string) func(string) ([]byte, error) {
	return func(p string) ([]byte, error) {
		s, ok := m[p]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: p, Err: unix.ENOENT}
		}
		return []byte(s), nil
	}
}

func TestResolve(t *testing.T) {
	image := files(map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
		"/etc/group":  "root:x:0:root\nbin:x:1:root,daemon\napp:x:1001:\nvideo:x:44:app\n",
	})
	for _, tc := range []struct {
		spec   string
		add    []string
		uid    uint32
		gid    uint32
		groups []uint32
		home   string
		err    string
	}{
		{"", nil, 0, 0, []uint32{0, 1}, "/root", ""},
		{"root", nil, 0, 0, []uint32{0, 1}, "/root", ""},
		{"app", []string{"bin", "77"}, 1000, 1001, []uint32{1001, 44, 1, 77}, "/home/app", ""},
		{"1000", nil, 1000, 1001, []uint32{1001, 44}, "/home/app", ""},
		{"app:root", nil, 1000, 0, []uint32{0}, "/home/app", ""},
		{"4000:5000", nil, 4000, 5000, []uint32{5000}, "/", ""},
		{"4000", nil, 4000, 0, []uint32{0}, "/", ""},
		{"nouser", nil, 0, 0, nil, "", "unable to find user nouser: no matching entries in passwd file"},
		{"app:nogroup", nil, 0, 0, nil, "", "unable to find group nogroup: no matching entries in group file"},
		{"app", []string{"nogroup"}, 0, 0, nil, "", "unable to find group nogroup: no matching entries in group file"},
	} {
		u, err := Resolve(tc.spec, tc.add, image)
		if tc.err != "" {
			if err == nil || err.Error() != tc.err || !errors.Is(err, errdefs.Invalid) {
				t.Errorf("Resolve(%q) = %v", tc.spec, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("Resolve(%q): %v", tc.spec, err)
			continue
		}
		if u.Home == "" {
			u.Home = "/"
		}
		if u.UID != tc.uid || u.GID != tc.gid || !slices.Equal(u.Groups, tc.groups) || u.Home != tc.home {
			t.Errorf("Resolve(%q) = %+v", tc.spec, u)
		}
	}
}

func TestEmptyImage(t *testing.T) {
	u, err := Resolve("", nil, files(nil))
	if err != nil || u.UID != 0 || u.GID != 0 || Home(0, files(nil)) != "" {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := Resolve("root", nil, files(nil)); err == nil {
		t.Error("root by name without a passwd file")
	}
	broken := func(string) ([]byte, error) { return nil, unix.EFBIG }
	if _, err := Resolve("", nil, broken); !errors.Is(err, unix.EFBIG) {
		t.Error(err)
	}
}
