package secret

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// Annotations ask for the references of a container when it is created: any
// client can send them.
const (
	SecretsAnnotation = "lade.secrets"
	ConfigsAnnotation = "lade.configs"
)

// Reference is a secret or config that a container finds in a file.
type Reference struct {
	Kind   Kind        `json:"kind"`
	ID     string      `json:"id"`
	Name   string      `json:"name"`
	Target string      `json:"target"` // absolute path inside
	UID    uint32      `json:"uid"`    // inside
	GID    uint32      `json:"gid"`
	Mode   fs.FileMode `json:"mode"` // permission bits
}

// Asked returns what a container's annotations ask for, without ids: Name is
// what the user called it. Errors: Invalid.
func Asked(annotations map[string]string) (out []Reference, err error) {
	for _, a := range []struct {
		kind Kind
		key  string
	}{{Secret, SecretsAnnotation}, {Config, ConfigsAnnotation}} {
		for _, text := range strings.Split(annotations[a.key], ";") {
			if text == "" {
				continue
			}
			r, err := Parse(a.kind, text)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// Parse reads "NAME[,target=PATH][,uid=N][,gid=N][,mode=OCTAL]"; the name may be
// said as "source=NAME", too. Errors: Invalid.
func Parse(kind Kind, text string) (Reference, error) {
	r := Reference{Kind: kind, Mode: 0o444}
	bad := func(why string) (Reference, error) {
		return r, errdefs.Invalidf("invalid %s %q: %s", kind, text, why)
	}
	for i, field := range strings.Split(text, ",") {
		key, value, pair := strings.Cut(field, "=")
		if !pair {
			if i > 0 || field == "" {
				return bad("the format is NAME[,target=PATH][,uid=N][,gid=N][,mode=OCTAL]")
			}
			key, value = "source", field
		}
		var err error
		var n uint64
		switch key {
		case "source", "src", "id":
			r.Name = value
		case "target", "dst", "destination":
			if value == "" || strings.Contains(value, "\x00") {
				return bad("the target is empty")
			}
			r.Target = value
		case "uid":
			n, err = strconv.ParseUint(value, 10, 32)
			r.UID = uint32(n)
		case "gid":
			n, err = strconv.ParseUint(value, 10, 32)
			r.GID = uint32(n)
		case "mode":
			n, err = strconv.ParseUint(value, 8, 32)
			if err == nil && n > 0o777 {
				return bad("the mode is more than 0777")
			}
			r.Mode = fs.FileMode(n)
		default:
			return bad("unknown field " + strconv.Quote(key))
		}
		if err != nil {
			return bad("bad number in " + field)
		}
	}
	if r.Name == "" {
		return bad("a name is required")
	}
	if path.Clean("/"+r.target("x")) == "/" {
		return bad("the target is a directory")
	}
	return r, nil
}

// target returns where an object called name is found inside: secrets below
// /run/secrets and configs below / unless the user says otherwise.
func (r Reference) target(name string) string {
	if path.IsAbs(r.Target) {
		return path.Clean(r.Target)
	}
	rel := r.Target
	if rel == "" {
		rel = name
	}
	rel = path.Clean("/" + rel) // nothing leads out
	if r.Kind == Secret {
		return "/run/secrets" + rel
	}
	return rel
}

// Resolve completes references by the objects they name. Errors: NotFound;
// Invalid for two with the same target.
func (s *Store) Resolve(refs []Reference) error {
	targets := map[string]bool{}
	for i := range refs {
		r := &refs[i]
		o, err := s.Find(r.Kind, r.Name)
		if err != nil {
			return err
		}
		r.ID, r.Name = o.ID, o.Name
		r.Target = r.target(o.Name)
		if targets[r.Target] {
			return errdefs.Invalidf("duplicate %s target for %s not allowed", r.Kind, r.Name)
		}
		targets[r.Target] = true
	}
	return nil
}
