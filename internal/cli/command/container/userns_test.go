package container

import "testing"

// A bare keep-id keeps who calls, and makes that the user of the container.
func TestKeepCaller(t *testing.T) {
	for _, c := range []struct {
		mode, user         string
		uid, gid           int
		wantMode, wantUser string
	}{
		{"keep-id", "", 1000, 100, "keep-id:1000:100", "1000:100"},
		{"keep-id", "app", 1000, 100, "keep-id:1000:100", "app"},
		{"keep-id", "2000:3000", 1000, 100, "keep-id", "2000:3000"},
		{"keep-id", "2000", 1000, 100, "keep-id", "2000"},
		{"keep-id:5:6", "", 1000, 100, "keep-id:5:6", ""},
		{"keep-id", "", 0, 0, "keep-id", ""},
		{"auto", "", 1000, 100, "auto", ""},
		{"", "", 1000, 100, "", ""},
	} {
		if mode, user := keepCaller(c.mode, c.user, c.uid, c.gid); mode != c.wantMode || user != c.wantUser {
			t.Errorf("%d:%d --userns=%q --user=%q: %q %q, want %q %q", c.uid, c.gid, c.mode, c.user, mode, user, c.wantMode, c.wantUser)
		}
	}
}
