package seccomp

import (
	"fmt"
	"reflect"
	"testing"
)

// TestDefaults checks that a profile is made once for a bounding set, and is that
// of the set.
func TestDefaults(t *testing.T) {
	var d Defaults
	for _, set := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_CHOWN", "CAP_SYS_ADMIN"}} {
		want, err := DefaultProfile(set)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Profile(set)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: another profile, %v", set, err)
		}
		if again, err := d.Profile(set); again != got || err != nil {
			t.Errorf("%v: it is made again, %v", set, err)
		}
	}
	for i := range 2 * maxDefaults {
		if _, err := d.Profile([]string{fmt.Sprint(i)}); err != nil || len(d.made) > maxDefaults {
			t.Fatalf("%d are kept, %v", len(d.made), err)
		}
	}
}
