package format

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// ShortID is the first twelve characters of an id, without its algorithm.
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	if len(id) > 12 {
		id = id[:12]
	}
	return id
}

// Ellipsis cuts s to n characters, the last of which is then "…".
func Ellipsis(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	if n <= 1 {
		return string(r[:max(n, 0)])
	}
	return string(r[:n-1]) + "…"
}

// Ago is a time in words, such as "3 minutes ago".
func Ago(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }

// Size is a number of bytes in decimal units with three digits.
func Size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// Labels joins labels as k=v, ordered by key.
func Labels(l map[string]string) string {
	out := make([]string, 0, len(l))
	for _, k := range slices.Sorted(maps.Keys(l)) {
		out = append(out, k+"="+l[k])
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// Natural orders texts by their numbers: "9/tcp" before "80/tcp".
func Natural(a, b string) int {
	digits := func(s string) int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			n, m := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
			if len(n) != len(m) {
				return len(n) - len(m)
			}
			if c := strings.Compare(n, m); c != 0 {
				return c
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}
