package container

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// records are what earlier versions have written, by their commit.
func records(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/records/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		if all[strings.TrimSuffix(filepath.Base(f), ".json")], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func fieldsOf(t *testing.T, raw []byte) (all map[string]any) {
	t.Helper()
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestOlderRecords: a record of an earlier version is read, and written without
// the loss of a field.
func TestOlderRecords(t *testing.T) {
	for version, raw := range records(t) {
		r, err := Decode(raw)
		if err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		if r.Name != "golden" || r.State != Running || r.HostConfig.Memory != 64<<20 || r.HostConfig.RestartPolicy.MaximumRetryCount != 3 || len(r.Mounts) == 0 {
			t.Errorf("%s: %+v", version, r)
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		was, is := fieldsOf(t, raw), fieldsOf(t, again)
		for _, name := range slices.Sorted(maps.Keys(was)) {
			if !reflect.DeepEqual(was[name], is[name]) {
				t.Errorf("%s: %s was %v and is %v", version, name, was[name], is[name])
			}
		}
	}
}

// TestNewerRecords: the fields of a later version are written again as they were.
func TestNewerRecords(t *testing.T) {
	for version, raw := range records(t) {
		newer := fieldsOf(t, raw)
		newer["of_a_later_version"] = map[string]any{"a": []any{1.0, "two"}}
		newer["another"] = true
		text, err := json.Marshal(newer)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Decode(text)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		changed := *r // as the actor does
		changed.Name = "renamed"
		again, err := changed.Encode()
		if err != nil {
			t.Fatal(err)
		}
		newer["name"] = "renamed"
		is := fieldsOf(t, again)
		for name, want := range newer {
			if !reflect.DeepEqual(is[name], want) {
				t.Errorf("%s: %s is %v, want %v", version, name, is[name], want)
			}
		}
		if len(is) != len(newer) {
			t.Errorf("%s: %d fields, want %d", version, len(is), len(newer))
		}
	}
}
