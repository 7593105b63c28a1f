package image

import (
	"strings"

	"lade/internal/errdefs"
)

// expand replaces what refers to variables, as in a Dockerfile: $name, ${name},
// ${name:-or} for one that is empty or not there, ${name:+then} for one that is
// not. What is behind a backslash stays as it is.
func expand(s string, env []string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			b.WriteByte(s[i+1])
			i += 2
		case s[i] == '$':
			value, n, err := variable(s[i:], env)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			i += n
		default:
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String(), nil
}

// variable reads what s, which begins with a dollar sign, refers to first, and
// how long that is. A dollar sign before no name stands for itself. Errors: Invalid.
func variable(s string, env []string) (value string, n int, err error) {
	if !strings.HasPrefix(s, "${") {
		end := 1
		for end < len(s) && (s[end] == '_' || isAlnum(s[end])) {
			end++
		}
		if end == 1 {
			return "$", 1, nil
		}
		return lookup(s[1:end], env), end, nil
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return "", 0, errdefs.Invalidf("syntax error: missing '}'")
	}
	name, operator, word := s[2:end], "", ""
	if i := strings.IndexByte(name, ':'); i >= 0 && i+1 < len(name) {
		name, operator, word = name[:i], name[i:i+2], name[i+2:]
	}
	value = lookup(name, env)
	switch {
	case name == "" || strings.IndexFunc(name, func(r rune) bool { return r != '_' && (r > 127 || !isAlnum(byte(r))) }) >= 0:
		return "", 0, errdefs.Invalidf("bad substitution: %s", s[:end+1])
	case operator == "" || operator == ":-" && value != "":
	case operator == ":-" || operator == ":+" && value != "":
		value = word
	case operator == ":+":
	default:
		return "", 0, errdefs.Invalidf("unsupported modifier (%s) in substitution", operator)
	}
	return value, end + 1, nil
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// lookup returns the value of a variable, "" for one that is not there.
func lookup(name string, env []string) string {
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}
