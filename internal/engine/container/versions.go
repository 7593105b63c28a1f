package container

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// A later version adds fields to the record, and gives what an earlier one wrote
// the meaning that it had: the earlier one reads the record, after a downgrade,
// and writes it again with the fields that it does not know as they were. So what
// a field of a later version says of a start may be of one before the last; it
// has to be looked at with that in mind. A record whose old fields mean something
// else is another bucket of the store.

// known are the names of the record's own fields.
var known = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	for f := range reflect.TypeFor[Record]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() {
			names[name] = true
		}
	}
	return names
})

// Decode reads a record back, of this version or another.
func Decode(raw []byte) (*Record, error) {
	r := new(Record)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if d.Decode(r) != nil { // or one further down: what is not a field of ours alone is lost
		r = new(Record)
		if err := json.Unmarshal(raw, r); err != nil {
			return nil, fmt.Errorf("container record: %w", err)
		}
		all := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &all); err != nil {
			return nil, fmt.Errorf("container record: %w", err)
		}
		for name := range known() {
			delete(all, name)
		}
		r.foreign = all
	}
	if err := r.complete(); err != nil {
		return nil, err
	}
	return r, nil
}

// Encode returns what Decode reads.
func (r *Record) Encode() ([]byte, error) {
	own, err := json.Marshal(r)
	if err != nil || len(r.foreign) == 0 {
		return own, err
	}
	more, err := json.Marshal(r.foreign)
	if err != nil {
		return nil, err
	}
	own[len(own)-1] = ',' // both are objects with fields
	return append(own, more[1:]...), nil
}
