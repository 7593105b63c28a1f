package profile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Default returns Docker's default profile for the machine's
// architecture and kernel, for a process with the given bounding set
// ("CAP_CHOWN", …).
func Default(capabilities []string) (*specs.LinuxSeccomp, error) {
	return seccomp.GetDefaultProfile(process(capabilities))
}

// Defaults keeps default profiles by their bounding set: to make one takes the
// daemon a fifteenth of all that an exec does. The zero value is ready. It may be
// used by several goroutines; mu guards made.
type Defaults struct {
	mu   sync.Mutex
	made map[string]*specs.LinuxSeccomp // by the set, joined by commas
}

// maxDefaults bounds Defaults: few sets are used, but clients choose them.
const maxDefaults = 64

// Profile is Default. The profile is shared: the caller must not change it.
// A nil Defaults keeps none.
func (d *Defaults) Profile(capabilities []string) (*specs.LinuxSeccomp, error) {
	if d == nil {
		return Default(capabilities)
	}
	key := strings.Join(capabilities, ",")
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.made[key]; p != nil {
		return p, nil
	}
	p, err := Default(capabilities)
	if err != nil {
		return nil, err
	}
	if d.made == nil || len(d.made) >= maxDefaults {
		d.made = map[string]*specs.LinuxSeccomp{}
	}
	d.made[key] = p
	return p, nil
}

// Load reads a profile in Docker's JSON form (--security-opt seccomp=FILE),
// filtered as Default is. It returns nil for a profile that filters nothing.
// Errors: Invalid.
func Load(text []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	if err := noNulls(text); err != nil {
		return nil, err
	}
	s, err := seccomp.LoadProfile(string(text), process(capabilities))
	if err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	return s, nil
}

// noNulls refuses a profile with "null" in a list, where the profiles' package
// expects a rule or an argument. What is no profile at all is not its matter.
func noNulls(text []byte) error {
	if !bytes.Contains(text, []byte("null")) {
		return nil
	}
	var p struct {
		Syscalls []*struct {
			Args []*json.RawMessage `json:"args"`
		} `json:"syscalls"`
	}
	if json.Unmarshal(text, &p) != nil {
		return nil
	}
	for _, s := range p.Syscalls {
		if s == nil || slices.Contains(s.Args, nil) {
			return errdefs.Invalidf("invalid seccomp profile: null in the list of system calls")
		}
	}
	return nil
}

func process(capabilities []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
}

// Key returns a name for a profile, equal for equal profiles, under which its
// compiled filter can be kept. It costs a small part of compiling it. It never
// fails; the error is for callers that keep other kinds of keys beside it.
func Key(s *specs.LinuxSeccomp) (string, error) {
	h := sha256.New()
	buf := make([]byte, 0, 4096)
	text := func(t string) {
		buf = binary.AppendUvarint(buf, uint64(len(t)))
		buf = append(buf, t...)
		if len(buf) > 3500 {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	number := func(n uint64) { buf = binary.AppendUvarint(buf, n) }
	errno := func(e *uint) {
		if e == nil {
			number(0)
		} else {
			number(uint64(*e) + 1)
		}
	}
	text(string(s.DefaultAction))
	errno(s.DefaultErrnoRet)
	number(uint64(len(s.Architectures)))
	for _, a := range s.Architectures {
		text(string(a))
	}
	number(uint64(len(s.Flags)))
	for _, f := range s.Flags {
		text(string(f))
	}
	text(s.ListenerPath)
	text(s.ListenerMetadata)
	for i := range s.Syscalls {
		sc := &s.Syscalls[i]
		text(string(sc.Action))
		errno(sc.ErrnoRet)
		number(uint64(len(sc.Names)))
		for _, n := range sc.Names {
			text(n)
		}
		number(uint64(len(sc.Args)))
		for _, a := range sc.Args {
			number(uint64(a.Index))
			number(a.Value)
			number(a.ValueTwo)
			text(string(a.Op))
		}
	}
	h.Write(buf)
	return hex.EncodeToString(h.Sum(nil)), nil
}
