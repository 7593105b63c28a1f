package ids

import "testing"

func TestNew(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := New()
		if len(id) != Len || seen[id] {
			t.Fatalf("New() = %q", id)
		}
		seen[id] = true
	}
}

func TestValidName(t *testing.T) {
	for s, want := range map[string]bool{"ab": true, "a.b-c_9": true, "a": false, "": false, "-ab": false, "a/b": false, "ä": false} {
		if ValidName(s) != want {
			t.Errorf("ValidName(%q) = %v", s, !want)
		}
	}
	for i := range 20 {
		if n := Name(i); !ValidName(n) {
			t.Errorf("Name(%d) = %q is not valid", i, n)
		}
	}
}
