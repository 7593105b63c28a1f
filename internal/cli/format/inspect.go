package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/template"
)

// Lookup finds one object: decoded into its type, and as the engine wrote it.
// raw may be nil.
type Lookup func(ref string) (typed any, raw []byte, err error)

// BadTemplate is a template that does not parse.
type BadTemplate struct{ Err error }

func (e *BadTemplate) Error() string { return "template parsing error: " + e.Err.Error() }

// Unwrap is the parser's error.
func (e *BadTemplate) Unwrap() error { return e.Err }

// Inspect prints the objects that refs name: without template as an indented
// JSON array, with "json" as a compact one, else the template for each. Objects
// that are not found do not keep the others from being printed; their errors are
// returned joined. Errors: *BadTemplate.
//
// A template runs on the typed object first and, if that fails, on the engine's
// own JSON, so that fields unknown to this client can be printed.
func Inspect(out io.Writer, refs []string, tmpl string, get Lookup) error {
	var t *template.Template
	if tmpl != "" && tmpl != JSON {
		var err error
		if t, err = Parse(tmpl); err != nil {
			return &BadTemplate{err}
		}
	}
	var errs []error
	var text bytes.Buffer
	all := []json.RawMessage{}
	for _, ref := range refs {
		typed, raw, err := get(ref)
		if err == nil && t != nil {
			err = execute(&text, t, typed, raw)
		} else if err == nil {
			if raw == nil {
				raw, err = json.Marshal(typed)
			}
			all = append(all, raw)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	switch {
	case t != nil:
		if text.Len() == 0 {
			text.WriteByte('\n')
		}
		_, err = text.WriteTo(out)
	default:
		err = writeAll(out, all, tmpl == JSON)
	}
	return errors.Join(append(errs, err)...)
}

func execute(out *bytes.Buffer, t *template.Template, typed any, raw []byte) error {
	var b bytes.Buffer
	err := t.Execute(&b, typed)
	if err != nil && raw != nil {
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("unable to read inspect data: %w", err)
		}
		b.Reset()
		err = t.Option("missingkey=error").Execute(&b, v)
	}
	if err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	b.WriteByte('\n')
	_, err = b.WriteTo(out)
	return err
}

// writeAll joins without re-encoding: the order of keys is the engine's.
func writeAll(out io.Writer, all []json.RawMessage, compact bool) error {
	var joined, b bytes.Buffer
	joined.WriteByte('[')
	for i, raw := range all {
		if i > 0 {
			joined.WriteByte(',')
		}
		joined.Write(bytes.TrimSpace(raw))
	}
	joined.WriteByte(']')
	var err error
	if compact {
		err = json.Compact(&b, joined.Bytes())
	} else {
		err = json.Indent(&b, joined.Bytes(), "", "    ")
	}
	if err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = b.WriteTo(out)
	return err
}
