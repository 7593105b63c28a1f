package secret

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"lade/internal/errdefs"
	"lade/internal/store"
)

// Kind tells secrets from configs.
type Kind string

// The kinds.
const (
	Secret Kind = "secret"
	Config Kind = "config"
)

const bucket = store.Bucket("secrets")

// limit returns how many bytes a value must be smaller than.
//
// Source: swarmkit's api/validation.MaxSecretSize, controlapi.MaxConfigSize.
func (k Kind) limit() int {
	if k == Secret {
		return 500 << 10
	}
	return 1000 << 10
}

// Object is a secret or a config. One that was returned is not changed any more.
type Object struct {
	ID      string            `json:"id"`
	Kind    Kind              `json:"kind"`
	Name    string            `json:"name"`
	Labels  map[string]string `json:"labels,omitempty"`
	Version uint64            `json:"version"` // grows with every change
	Created time.Time         `json:"created"`
	Updated time.Time         `json:"updated"`
	Sealed  []byte            `json:"sealed"`
}

// Decode reads an object's record back.
func Decode(raw []byte) (*Object, error) {
	o := new(Object)
	if err := json.Unmarshal(raw, o); err != nil {
		return nil, fmt.Errorf("record of a secret or config: %w", err)
	}
	if o.ID == "" || o.Kind != Secret && o.Kind != Config || !validName(o.Name) {
		return nil, fmt.Errorf("record of the secret or config %q is incomplete", o.ID)
	}
	return o, nil
}

// entry is an object with who uses it.
type entry struct {
	*Object
	users map[string]bool
	// busy says that it is being made or removed: its name is taken, but it is
	// not there.
	busy bool
}

// Store keeps the objects of both kinds.
type Store struct {
	records *store.Store
	keyFile string

	mu  sync.Mutex
	all map[string]*entry // by id

	keyMu  sync.Mutex
	sealer cipher.AEAD // nil until the key was needed
}

// Open reads the records. The key is at keyFile, and made there when it is first
// needed. A damaged record is reported to the log and left alone.
func Open(records *store.Store, keyFile string, log *slog.Logger) *Store {
	s := &Store{records: records, keyFile: keyFile, all: map[string]*entry{}}
	for id, raw := range records.Walk(bucket) {
		o, err := Decode(raw)
		if err != nil || o.ID != id {
			log.Error("a secret or config cannot be shown", "id", id, "error", err)
			continue
		}
		s.all[id] = &entry{Object: o, users: map[string]bool{}}
	}
	return s
}

// any reports whether a value was sealed before.
func (s *Store) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.Sealed != nil {
			return true
		}
	}
	return false
}

// validName reports whether swarmkit would take a name.
func validName(s string) bool {
	alnum := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' }
	if s == "" || len(s) > 64 || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && !strings.ContainsRune("-_.", rune(s[i])) {
			return false
		}
	}
	return true
}

// newID returns an id of the shape that swarmkit's have: 25 digits of base 36,
// from 128 random bits.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return fmt.Sprintf("%025s", new(big.Int).SetBytes(b[:]).Text(36))
}

// invalid is an error in Docker's words, which name swarmkit's status.
func invalid(format string, a ...any) error {
	return errdefs.Invalidf("rpc error: code = InvalidArgument desc = "+format, a...)
}

// Create keeps a new object, durably. Errors: Invalid for a bad name or size,
// Conflict for a name in use by another of the kind, DataLoss without the key.
func (s *Store) Create(ctx context.Context, kind Kind, name string, labels map[string]string, value []byte) (*Object, error) {
	switch {
	case name == "":
		return nil, invalid("name must be provided")
	case !validName(name):
		return nil, invalid("invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]")
	case len(value) == 0 || len(value) >= kind.limit():
		return nil, invalid("%s data must be larger than 0 and less than %d bytes", kind, kind.limit())
	}
	now := time.Now().UTC()
	o := &Object{ID: newID(), Kind: kind, Name: name, Labels: maps.Clone(labels), Version: 1, Created: now, Updated: now}
	if err := s.reserve(o); err != nil {
		return nil, err
	}
	sealed, err := s.seal(kind, o.ID, value)
	if err == nil {
		done := *o
		done.Sealed = sealed
		o = &done
		err = s.put(ctx, o)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.all, o.ID)
		return nil, err
	}
	s.all[o.ID] = &entry{Object: o, users: map[string]bool{}}
	return o, nil
}

// reserve takes the name of an object that is being made.
func (s *Store) reserve(o *Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.Kind == o.Kind && e.Name == o.Name {
			return errdefs.Conflictf("rpc error: code = AlreadyExists desc = %s %s already exists", o.Kind, o.Name)
		}
	}
	s.all[o.ID] = &entry{Object: o, busy: true}
	return nil
}

func (s *Store) put(ctx context.Context, o *Object) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(bucket, o.ID, raw)
	return s.records.Commit(ctx, &b)
}

// Find returns the object of that id, name, or unique beginning of an id.
// Errors: NotFound, Invalid for a beginning of several.
func (s *Store) Find(kind Kind, ref string) (*Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(kind, ref)
	if err != nil {
		return nil, err
	}
	return e.Object, nil
}

func (s *Store) find(kind Kind, ref string) (*entry, error) {
	if e := s.all[ref]; e != nil && e.Kind == kind && !e.busy {
		return e, nil
	}
	var begin []*entry
	for _, e := range s.all {
		switch {
		case e.Kind != kind || e.busy || ref == "":
		case e.Name == ref:
			return e, nil
		case strings.HasPrefix(e.ID, ref):
			begin = append(begin, e)
		}
	}
	switch len(begin) {
	case 0:
		return nil, errdefs.NotFoundf("%s %s not found", kind, ref)
	case 1:
		return begin[0], nil
	}
	return nil, errdefs.Invalidf("%s %s is ambiguous (%d matches found)", kind, ref, len(begin))
}

// List returns all objects of a kind, by name.
func (s *Store) List(kind Kind) []*Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Object
	for _, e := range s.all {
		if e.Kind == kind && !e.busy {
			out = append(out, e.Object)
		}
	}
	slices.SortFunc(out, func(a, b *Object) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Value opens the value of an object, which the caller should overwrite when it
// is done with it. Errors: NotFound, DataLoss for a value or key that was
// changed.
func (s *Store) Value(kind Kind, ref string) ([]byte, error) {
	o, err := s.Find(kind, ref)
	if err != nil {
		return nil, err
	}
	return s.open(o)
}

// Relabel replaces the labels of the version of an object that the caller saw.
// Errors: NotFound; Invalid for another version.
func (s *Store) Relabel(ctx context.Context, kind Kind, ref string, version uint64, labels map[string]string) (*Object, error) {
	s.mu.Lock()
	e, err := s.find(kind, ref)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	before := e.Object
	if before.Version != version {
		s.mu.Unlock()
		return nil, invalid("update out of sequence")
	}
	next := *before
	next.Labels, next.Version, next.Updated = maps.Clone(labels), version+1, time.Now().UTC()
	e.busy = true
	s.mu.Unlock()
	err = s.put(ctx, &next)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.busy = false
	if err != nil {
		return nil, err
	}
	e.Object = &next
	return e.Object, nil
}

// Remove deletes an object that nobody uses. inUse is called with the users of
// one that is used, and makes the error. Errors: NotFound, and inUse's.
func (s *Store) Remove(ctx context.Context, kind Kind, ref string, inUse func(o *Object, users []string) error) (*Object, error) {
	s.mu.Lock()
	e, err := s.find(kind, ref)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	users := slices.Sorted(maps.Keys(e.users))
	e.busy = len(users) == 0
	s.mu.Unlock()
	if len(users) > 0 {
		return nil, inUse(e.Object, users)
	}
	var b store.Batch
	b.Delete(bucket, e.ID)
	err = s.records.Commit(ctx, &b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		e.busy = false
		return nil, err
	}
	delete(s.all, e.ID)
	return e.Object, nil
}

// Hold says that user uses what it refers to: all of it, or none on an error.
// Errors: NotFound.
func (s *Store) Hold(user string, refs []Reference) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range refs {
		if e := s.all[r.ID]; e == nil || e.busy {
			return errdefs.NotFoundf("%s %s not found", r.Kind, r.Name)
		}
	}
	for _, r := range refs {
		s.all[r.ID].users[user] = true
	}
	return nil
}

// Release says that user uses nothing any more.
func (s *Store) Release(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		delete(e.users, user)
	}
}
