package logdriver

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/ids"
)

// tag is the template of the name that messages carry.
func tag(c container.LogConfig) string {
	if t := c.Config["tag"]; t != "" || !remote(c.Type) {
		return t
	}
	return "{{.ID}}"
}

// field returns a field of Docker's template; ok is false for one that it does
// not have.
func (i Info) field(name string) (value any, ok bool) {
	switch name {
	case "ID":
		return ids.Truncate(i.ID), true
	case "FullID", "ContainerID":
		return i.ID, true
	case "Name":
		return i.Name, true
	case "ContainerName":
		return "/" + i.Name, true
	case "ImageID":
		return ids.Truncate(i.ImageID), true
	case "ImageFullID", "ContainerImageID":
		return i.ImageID, true
	case "ImageName", "ContainerImageName":
		return i.ImageName, true
	case "Command":
		return i.Command, true
	case "Hostname":
		return hostname(), true
	case "DaemonName":
		return i.DaemonName, true
	case "LogPath":
		return i.Path, true
	case "ContainerCreated":
		return i.Created.String(), true
	case "ContainerLabels":
		return i.Labels, true
	case "ContainerEnv":
		return i.Env, true
	}
	return nil, false
}

// expand fills a tag in. It knows what tags are made of: fields, the functions
// index, json, lower, upper, title and truncate, and pipes between them.
// Errors: Invalid.
func expand(tag string, i Info) (string, error) {
	var out strings.Builder
	rest := tag
	for {
		text, after, open := strings.Cut(rest, "{{")
		out.WriteString(text)
		if !open {
			return out.String(), nil
		}
		action, next, closed := strings.Cut(after, "}}")
		if !closed {
			return "", badTag(tag, "unclosed action")
		}
		v, err := evaluate(action, i)
		if err != nil {
			return "", badTag(tag, err.Error())
		}
		out.WriteString(asText(v))
		rest = next
	}
}

func badTag(tag, why string) error {
	return errdefs.Invalidf("invalid log tag %q: %s", tag, why)
}

// evaluate runs one action: calls with a pipe between them, the result of each
// the last argument of the next.
func evaluate(action string, i Info) (v any, err error) {
	for n, call := range strings.Split(action, "|") {
		words, err := split(strings.TrimSpace(call))
		if err != nil {
			return nil, err
		}
		if len(words) == 0 {
			return nil, errdefs.Invalidf("missing value for command")
		}
		args, name := words, ""
		if c := words[0][0]; c != '.' && c != '"' {
			name, args = words[0], words[1:]
		}
		var values []any
		for _, a := range args {
			value, err := operand(a, i)
			if err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		if n > 0 {
			values = append(values, v)
		}
		if v, err = apply(name, values); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// split takes a call apart at spaces outside of strings.
func split(call string) (words []string, err error) {
	for call = strings.TrimSpace(call); call != ""; call = strings.TrimLeft(call, " ") {
		word := call
		if call[0] == '"' {
			if word, err = strconv.QuotedPrefix(call); err != nil {
				return nil, errdefs.Invalidf("unterminated quoted string")
			}
		} else if n := strings.IndexByte(call, ' '); n >= 0 {
			word = call[:n]
		}
		words = append(words, word)
		call = call[len(word):]
	}
	return words, nil
}

func operand(word string, i Info) (any, error) {
	switch {
	case word[0] == '"':
		return strconv.Unquote(word)
	case word[0] == '.':
		v, ok := i.field(word[1:])
		if !ok {
			return nil, errdefs.Invalidf("can't evaluate field %s", word[1:])
		}
		return v, nil
	}
	n, err := strconv.Atoi(word)
	if err != nil {
		return nil, errdefs.Invalidf("unexpected %q", word)
	}
	return n, nil
}

func apply(name string, args []any) (any, error) {
	one := func(f func(string) string) (any, error) {
		if len(args) != 1 {
			return nil, errdefs.Invalidf("wrong number of args for %s: want 1 got %d", name, len(args))
		}
		return f(asText(args[0])), nil
	}
	switch name {
	case "":
		if len(args) != 1 {
			return nil, errdefs.Invalidf("can't give argument to non-function")
		}
		return args[0], nil
	case "lower":
		return one(strings.ToLower)
	case "upper":
		return one(strings.ToUpper)
	case "title":
		return one(title)
	case "json":
		if len(args) == 1 {
			b, err := json.Marshal(args[0])
			return string(b), err
		}
	case "truncate":
		if len(args) == 2 {
			if n, ok := args[1].(int); ok && n >= 0 {
				s := []rune(asText(args[0]))
				return string(s[:min(n, len(s))]), nil
			}
		}
	case "index":
		if len(args) == 2 {
			if m, ok := args[0].(map[string]string); ok {
				return m[asText(args[1])], nil
			}
		}
	default:
		return nil, errdefs.Invalidf("function %q not defined", name)
	}
	return nil, errdefs.Invalidf("wrong arguments for %s", name)
}

// title makes the first letter of each word a capital.
func title(s string) string {
	begin := true
	return strings.Map(func(r rune) rune {
		was := begin
		begin = unicode.IsSpace(r)
		if was {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func asText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
