package main

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The state is written as json.Marshal would: every field, empty and filled, with
// every kind of character.
func TestLine(t *testing.T) {
	full := &container{State: specs.State{Annotations: map[string]string{"b": "2", "a \x01\"": "ä<&>\u2028\xff"}}, Resctrl: []string{"/a", "/\\b"}}
	fill(reflect.ValueOf(full).Elem())
	for name, c := range map[string]*container{"empty": {}, "full": full} {
		want, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(c.line()); got != string(want) {
			t.Errorf("%s:\n%s\n%s", name, got, want)
		}
		var back container
		if err := json.Unmarshal(c.line(), &back); err != nil || !back.Created.Equal(c.Created) || back.Creator != c.Creator || back.ID != c.ID {
			t.Errorf("%s: %v %+v", name, err, back)
		}
	}
}

// fill gives every field a value that is not its zero value, so that one that is
// added later and not written is found.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case !f.CanSet():
		case f.Type() == reflect.TypeFor[time.Time]():
			f.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 6789, time.UTC)))
		case f.Kind() == reflect.Struct:
			fill(f)
		case f.Kind() == reflect.String:
			f.SetString("a\n\"\\ é")
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.CanInt():
			f.SetInt(1 << 40)
		case f.CanUint():
			f.SetUint(1<<64 - 1)
		}
	}
}
