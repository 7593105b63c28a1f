package compat

import "net/url"

// Row is one difference: what clients older than Below are used to.
type Row struct {
	Operation string
	Below     Version
	Query     func(url.Values) // changes the query before the handler reads it
	Body      func(any)        // changes the decoded body, given as a pointer
	Refuse    func(any) error  // says what of the decoded body was an error: Invalid
	Response  func(any) any    // returns what is sent instead
}

// Table finds the rows of an operation.
type Table struct{ rows map[string][]Row }

// New returns the table of all differences.
func New() *Table {
	t := &Table{rows: make(map[string][]Row)}
	for _, part := range [][]Row{containerRows(), imageRows(), networkRows(), systemRows(), volumeRows()} {
		for _, r := range part {
			t.rows[r.Operation] = append(t.rows[r.Operation], r)
		}
	}
	return t
}

// Query adjusts the query of a request of version v in place.
func (t *Table) Query(operation string, v Version, q url.Values) {
	for _, r := range t.rows[operation] {
		if v < r.Below && r.Query != nil {
			r.Query(q)
		}
	}
}

// Body adjusts a decoded body, given as a pointer, in place. Errors: Invalid for
// what the version did not know, and did not ignore.
func (t *Table) Body(operation string, v Version, body any) error {
	for _, r := range t.rows[operation] {
		if v >= r.Below {
			continue
		}
		if r.Refuse != nil {
			if err := r.Refuse(body); err != nil {
				return err
			}
		}
		if r.Body != nil {
			r.Body(body)
		}
	}
	return nil
}

// Response returns what a client of version v is sent in place of value.
func (t *Table) Response(operation string, v Version, value any) any {
	if v == Newest {
		return value
	}
	for _, r := range t.rows[operation] {
		if v < r.Below && r.Response != nil {
			value = r.Response(value)
		}
	}
	return value
}

// Form tells the forms of an operation's answers apart: it is the same number for
// versions whose clients are sent the same.
func (t *Table) Form(operation string, v Version) (form int) {
	for _, r := range t.rows[operation] {
		if v < r.Below && r.Response != nil {
			form++
		}
	}
	return form
}

// query returns a row that adjusts the query.
func query(op string, minor uint16, f func(url.Values)) Row {
	return Row{Operation: op, Below: V1(minor), Query: f}
}

// body returns a row that adjusts a body of type *T.
func body[T any](op string, minor uint16, f func(*T)) Row {
	return Row{Operation: op, Below: V1(minor), Body: func(v any) {
		if t, ok := v.(*T); ok {
			f(t)
		}
	}}
}

// response returns a row that adjusts answers of type T.
func response[T any](op string, minor uint16, f func(T) any) Row {
	return Row{Operation: op, Below: V1(minor), Response: func(v any) any {
		if t, ok := v.(T); ok {
			return f(t)
		}
		return v
	}}
}

// each returns a row that changes every element of a list, in a copy.
func each[T any](op string, minor uint16, f func(*T)) Row {
	return response(op, minor, func(list []T) any {
		out := make([]T, len(list))
		copy(out, list)
		for i := range out {
			f(&out[i])
		}
		return out
	})
}

// drop returns a query adjustment that removes parameters which the version
// does not know.
func drop(names ...string) func(url.Values) {
	return func(q url.Values) {
		for _, n := range names {
			delete(q, n)
		}
	}
}
