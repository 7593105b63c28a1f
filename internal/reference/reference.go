package reference

import (
	"strings"

	"lade/internal/digest"
	"lade/internal/errdefs"
)

const (
	// DefaultDomain is the registry of a name that has none.
	DefaultDomain = "docker.io"
	// DefaultTag is the tag of a name that has neither tag nor digest.
	DefaultTag = "latest"

	legacyDomain = "index.docker.io"
	official     = "library/"
	maxPath      = 255 // bytes
	maxTag       = 128 // bytes
)

// Reference names an image, normalised: Domain and Path are never empty.
type Reference struct {
	Domain string        // registry host, with port if any
	Path   string        // repository within the registry
	Tag    string        // "" if none was given
	Digest digest.Digest // "" if none was given
}

// Parse reads a name as users write it. Errors: Invalid, in Docker's words;
// NotImplemented for a digest other than SHA-256.
func Parse(s string) (Reference, error) {
	if isIdentifier(s) {
		return Reference{}, errdefs.Invalidf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	domain, rest := split(s)
	remote, _, _ := strings.Cut(rest, ":")
	if strings.ToLower(remote) != remote {
		return Reference{}, errdefs.Invalidf("invalid reference format: repository name (%s) must be lowercase", remote)
	}
	r := Reference{Domain: domain}
	var ok bool
	r.Path, rest = scanPath(rest)
	if r.Path == "" || !isDomain(domain) {
		return Reference{}, malformed()
	}
	if tag, found := strings.CutPrefix(rest, ":"); found {
		n := scanTag(tag)
		if n == 0 {
			return Reference{}, malformed()
		}
		r.Tag, rest = tag[:n], tag[n:]
	}
	if rest != "" {
		if rest, ok = strings.CutPrefix(rest, "@"); !ok || !isDigest(rest) {
			return Reference{}, malformed()
		}
	}
	if len(r.Path) > maxPath {
		return Reference{}, errdefs.Invalidf("repository name must not be more than %d characters", maxPath)
	}
	if rest != "" {
		d, err := digest.Parse(rest)
		if err != nil {
			return Reference{}, err
		}
		r.Digest = d
	}
	return r, nil
}

// ParseTagged is Parse with the tag "latest" for a name that has neither tag
// nor digest.
func ParseTagged(s string) (Reference, error) {
	r, err := Parse(s)
	if err != nil {
		return Reference{}, err
	}
	return r.WithDefaultTag(), nil
}

// WithDefaultTag returns r with the tag "latest" if it has neither tag nor digest.
func (r Reference) WithDefaultTag() Reference {
	if r.NameOnly() {
		r.Tag = DefaultTag
	}
	return r
}

// WithTag returns the repository of r with a tag. Errors: Invalid.
func (r Reference) WithTag(tag string) (Reference, error) {
	if n := scanTag(tag); n == 0 || n != len(tag) {
		return Reference{}, errdefs.Invalidf("invalid tag format")
	}
	return Reference{Domain: r.Domain, Path: r.Path, Tag: tag}, nil
}

// WithDigest returns the repository of r with a digest and without a tag.
func (r Reference) WithDigest(d digest.Digest) Reference {
	return Reference{Domain: r.Domain, Path: r.Path, Digest: d}
}

// NameOnly reports whether r has neither tag nor digest.
func (r Reference) NameOnly() bool { return r.Tag == "" && r.Digest == "" }

// Name returns the whole name of the repository: "docker.io/library/busybox".
func (r Reference) Name() string { return r.Domain + "/" + r.Path }

// FamiliarName returns the repository as users write it: "busybox".
func (r Reference) FamiliarName() string {
	if r.Domain != DefaultDomain {
		return r.Name()
	}
	if short, ok := strings.CutPrefix(r.Path, official); ok && !strings.Contains(short, "/") {
		return short
	}
	return r.Path
}

// String returns the whole reference, which Parse reads back.
func (r Reference) String() string { return r.Name() + r.suffix() }

// Familiar returns the reference as users write it: "busybox:latest".
func (r Reference) Familiar() string { return r.FamiliarName() + r.suffix() }

func (r Reference) suffix() string {
	var s string
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

func malformed() error { return errdefs.Invalidf("invalid reference format") }

// split separates domain and remainder by Docker's rules.
func split(s string) (domain, rest string) {
	first, after, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		return DefaultDomain, official + s
	case first == legacyDomain:
		domain, rest = DefaultDomain, after
	case first == "localhost", strings.ContainsAny(first, ".:"), strings.ToLower(first) != first:
		domain, rest = first, after
	default:
		domain, rest = DefaultDomain, s
	}
	if domain == DefaultDomain && !strings.Contains(rest, "/") {
		rest = official + rest
	}
	return domain, rest
}

// scanPath returns the longest path at the start of s that ends where a path
// may end, and what follows it; "" when there is none.
func scanPath(s string) (path, rest string) {
	end := 0
	for {
		n := scanComponent(s[end:])
		if n == 0 {
			return "", s
		}
		end += n
		if end == len(s) || s[end] != '/' {
			return s[:end], s[end:]
		}
		end++
	}
}

// scanComponent returns the length of the component at the start of s.
func scanComponent(s string) int {
	n := span(s, isLowerAlnum)
	if n == 0 {
		return 0
	}
	for {
		sep := 0
		switch rest := s[n:]; {
		case strings.HasPrefix(rest, "__"):
			sep = 2
		case strings.HasPrefix(rest, "_"), strings.HasPrefix(rest, "."):
			sep = 1
		case strings.HasPrefix(rest, "-"):
			sep = span(rest, func(c byte) bool { return c == '-' })
		}
		word := span(s[n+sep:], isLowerAlnum)
		if sep == 0 || word == 0 {
			return n
		}
		n += sep + word
	}
}

// scanTag returns the length of the tag at the start of s.
func scanTag(s string) int {
	if s == "" || !isAlnum(s[0]) && s[0] != '_' {
		return 0
	}
	return min(maxTag, span(s, func(c byte) bool { return isAlnum(c) || c == '_' || c == '.' || c == '-' }))
}

// isDomain reports whether s is a host with an optional port.
func isDomain(s string) bool {
	host := s
	if strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 2 || span(s[1:i], func(c byte) bool { return isHex(c) || c == ':' }) != i-1 {
			return false
		}
		return s[i+1:] == "" || isPort(s[i+1:])
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if !isPort(s[i:]) {
			return false
		}
		host = s[:i]
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
			span(label, func(c byte) bool { return isAlnum(c) || c == '-' }) != len(label) {
			return false
		}
	}
	return true
}

func isPort(s string) bool {
	return len(s) > 1 && s[0] == ':' && span(s[1:], isDigit) == len(s)-1
}

// isDigest reports whether s has the form of a digest of any algorithm.
func isDigest(s string) bool {
	alg, enc, ok := strings.Cut(s, ":")
	if !ok || len(enc) < 32 || span(enc, isHex) != len(enc) {
		return false
	}
	for {
		i := strings.IndexAny(alg, "-_+.")
		word := alg
		if i >= 0 {
			word = alg[:i]
		}
		if word == "" || isDigit(word[0]) || span(word, isAlnum) != len(word) {
			return false
		}
		if i < 0 {
			return true
		}
		alg = alg[i+1:]
	}
}

// isIdentifier reports whether s is the digits of a SHA-256 digest, which
// would be confused with an id.
func isIdentifier(s string) bool {
	return len(s) == 64 && span(s, func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }) == 64
}

func span(s string, is func(byte) bool) int {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool      { return '0' <= c && c <= '9' }
func isLowerAlnum(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'z' }
func isAlnum(c byte) bool      { return isLowerAlnum(c) || 'A' <= c && c <= 'Z' }
func isHex(c byte) bool        { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }
