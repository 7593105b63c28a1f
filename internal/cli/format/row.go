package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// Table and JSON are the formats with names.
const (
	Table = "table"
	JSON  = "json"
)

// Row is one listed object: field → text. Values that are not strings print by
// their String method and marshal as they are.
type Row map[string]any

// labels is the key under which SetLabels hides a row's labels.
const labels = "\x00labels"

// SetLabels gives the row labels, for {{.Label "key"}}.
func (r Row) SetLabels(l map[string]string) { r[labels] = l }

// Label is one label's value; empty without it.
func (r Row) Label(key string) string {
	l, _ := r[labels].(map[string]string)
	return l[key]
}

// MarshalJSON writes the fields ordered by name.
func (r Row) MarshalJSON() ([]byte, error) {
	m := make(map[string]any, len(r))
	for k, v := range r {
		if k != labels {
			m[k] = v
		}
	}
	return json.Marshal(m)
}

// Header names the columns: field → heading.
type Header map[string]string

// Kind is the key under which a header says what Docker's client calls the type of
// a row: that is what it says of fields that are not there.
const Kind = "\x00kind"

// Columns are the fields that have a heading, sorted.
func (h Header) Columns() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(h)), func(f string) bool { return f == Kind })
}

// BadField is a template that asks for a field that is not there.
type BadField struct{ words string }

func (e *BadField) Error() string { return e.words }

// badField turns what the template engine says of a Row into what it would say of
// a type with the same fields.
func badField(err error, header Header) error {
	words := strings.ReplaceAll(err.Error(), "in type interface {}", "in type string")
	where, key, ok := strings.Cut(words, `map has no entry for key "`)
	if ok && header[Kind] != "" {
		words = where + "can't evaluate field " + strings.TrimSuffix(key, `"`) + " in type *" + header[Kind]
	}
	return &BadField{words}
}

// Label is the heading of a label's column: its last dotted part.
func (Header) Label(key string) string {
	return strings.NewReplacer("-", " ", "_", " ").Replace(key[strings.LastIndex(key, ".")+1:])
}

// functions are what every template may use.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":  toJSON,
		"split": strings.Split,
		"join":  strings.Join,
		"title": title,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
		},
		"truncate": func(s string, n int) string {
			if len(s) < n {
				return s
			}
			return s[:n]
		},
	}
}

// headings replaces the functions that would change a column's heading.
func headings() template.FuncMap {
	same := func(s string) string { return s }
	return template.FuncMap{
		"json": same, "title": same, "lower": same, "upper": same,
		"split":    func(s, _ string) string { return s },
		"join":     func(s, _ string) string { return s },
		"truncate": func(s string, _ int) string { return s },
	}
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// title upper-cases the first letter of every word.
func title(s string) string {
	prev := ' '
	return strings.Map(func(c rune) rune {
		start := prev == ' ' || prev == '\t' || prev == '-' || prev == '/' || prev == '.'
		prev = c
		if start {
			return []rune(strings.ToUpper(string(c)))[0]
		}
		return c
	}, s)
}

// Parse compiles a template with Docker's functions.
func Parse(text string) (*template.Template, error) {
	return template.New("").Funcs(functions()).Parse(text)
}

// Write prints rows in a format: "table T", "json" or a template.
func Write(out io.Writer, format string, header Header, rows []Row) error {
	if p, ok := plainOf(format, header); ok && p.fits(rows) {
		return p.write(out, header, rows)
	}
	body, isTable := bodyOf(format)
	t, err := Parse(body)
	if err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	t.Option("missingkey=error")
	var b bytes.Buffer
	for _, r := range rows {
		if err := t.Execute(&b, r); err != nil {
			return fmt.Errorf("template parsing error: %w", badField(err, header))
		}
		b.WriteByte('\n')
	}
	if !isTable {
		_, err := b.WriteTo(out)
		return err
	}
	var h bytes.Buffer
	// A heading that cannot be made (a template that computes) stays empty.
	_ = t.Option("missingkey=zero").Funcs(headings()).Execute(&h, header)
	h.WriteByte('\n')
	return writeTable(out, h.Bytes(), b.Bytes())
}

// writeTable aligns the columns of lines, and writes them at once.
func writeTable(out io.Writer, parts ...[]byte) error {
	var table bytes.Buffer // the writer writes each cell by itself
	w := tabwriter.NewWriter(&table, 10, 1, 3, ' ', 0)
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := table.WriteTo(out)
	return err
}

// bodyOf returns a format's template, and whether it is that of a table.
func bodyOf(format string) (body string, isTable bool) {
	body, isTable = strings.CutPrefix(format, Table)
	if format == JSON {
		body = "{{json .}}"
	}
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(body, " ")), isTable
}

// Fields returns the fields that a format prints when it does nothing else with
// them than to print them: "{{.A}}: {{.B}}", as a table or not. ok is false for
// any other format.
func Fields(format string, header Header) (fields []string, ok bool) {
	p, ok := plainOf(format, header)
	return p.fields, ok
}

// Uses reports whether a format prints a field.
func Uses(format, field string) bool { return strings.Contains(format, "."+field) }
