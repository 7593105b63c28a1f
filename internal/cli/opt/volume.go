package opt

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

// Volume reads a -v argument. A bare path is an anonymous volume: bind is then
// empty and target the path. Otherwise bind is what the API takes as a bind,
// its source made absolute when it begins with a dot.
func Volume(spec string) (bind, target string, err error) {
	if spec == "" {
		return "", "", fmt.Errorf("invalid empty volume spec")
	}
	if len(spec) <= 2 {
		return "", spec, nil
	}
	parts := splitVolume(spec)
	for _, p := range parts {
		if p == "" {
			return "", "", fmt.Errorf("invalid spec: %s: empty section between colons", spec)
		}
	}
	switch {
	case len(parts) == 1:
		return "", spec, nil
	case len(parts) > 3:
		return "", "", fmt.Errorf("invalid spec: %s: too many colons", spec)
	}
	host, rest, _ := strings.Cut(spec, ":")
	if strings.HasPrefix(parts[0], ".") && !filepath.IsAbs(host) {
		if abs, err := filepath.Abs(host); err == nil {
			return abs + ":" + rest, parts[1], nil
		}
	}
	return spec, parts[1], nil
}

// splitVolume splits at colons, except after the single letter of a Windows
// drive.
func splitVolume(spec string) []string {
	var parts []string
	var cur []rune
	for _, c := range spec {
		if c == ':' && !(len(cur) == 1 && unicode.IsLetter(cur[0])) {
			parts, cur = append(parts, string(cur)), nil
			continue
		}
		cur = append(cur, c)
	}
	return append(parts, string(cur))
}
