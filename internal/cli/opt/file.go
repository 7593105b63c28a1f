package opt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// EnvFiles reads files of variables and appends given, which so override them.
// A name without value takes the client's value, or is left out.
func EnvFiles(files, given []string) ([]string, error) { return readFiles(files, given, os.LookupEnv) }

// LabelFiles reads files of labels and appends given.
func LabelFiles(files, given []string) ([]string, error) { return readFiles(files, given, nil) }

func readFiles(files, given []string, lookup func(string) (string, bool)) ([]string, error) {
	var all []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, errors.New(strings.Replace(err.Error(), "read ", "open ", 1))
		}
		lines, err := parseFile(b, lookup)
		if err != nil {
			return nil, fmt.Errorf("invalid env file (%s): %w", f, err)
		}
		all = append(all, lines...)
	}
	return append(all, given...), nil
}

// parseFile reads KEY[=VALUE] lines: comments begin with #, leading space does
// not count, the value is everything after "=", quotes included.
func parseFile(b []byte, lookup func(string) (string, bool)) ([]string, error) {
	var out []string
	sc := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	for n := 1; sc.Scan(); n++ {
		raw := sc.Bytes()
		if !utf8.Valid(raw) {
			return nil, fmt.Errorf("invalid utf8 bytes at line %d: %v", n, raw)
		}
		line := strings.TrimLeftFunc(string(raw), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, pair := strings.Cut(line, "=")
		switch {
		case key == "":
			return nil, fmt.Errorf("no variable name on line '%s'", line)
		case strings.ContainsAny(key, " \t"):
			return nil, fmt.Errorf("variable '%s' contains whitespaces", key)
		case pair:
			out = append(out, line)
		case lookup != nil:
			if v, ok := lookup(line); ok {
				out = append(out, key+"="+v)
			}
		}
	}
	return out, sc.Err()
}
