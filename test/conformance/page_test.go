package conformance

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// page holds what a run of `make conformance` has found.
const page = "../../docs/compatibility.md"

// section writes a part of the page anew, which is between two marks; what makes
// it sees what was there.
func section(t *testing.T, page, name string, text func(old string) string) {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- made by make conformance: "+name+" -->\n", "<!-- end of "+name+" -->"
	head, rest, ok := strings.Cut(string(raw), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for %s", page, name)
	}
	if err := os.WriteFile(page, []byte(head+begin+text(old)+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// table writes one in Markdown.
func table(columns []string, rows [][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}

// results are the rows of the table of clients.
type results struct{ rows [][]string }

func (r *results) add(client, version string, got tally) {
	r.rows = append(r.rows, []string{client, version, fmt.Sprint(got.pass), fmt.Sprint(got.fail)})
}

// publish puts the rows into the page; those of clients that another test runs stay.
func (r *results) publish(t *testing.T, page string) {
	t.Helper()
	section(t, page, "clients", func(old string) string {
		rows := slices.Clone(r.rows)
		for line := range strings.Lines(old) {
			cells := strings.Split(strings.Trim(line, "| \n"), " | ")
			if len(cells) != 4 || cells[0] == "client" ||
				slices.ContainsFunc(rows, func(row []string) bool { return row[0] == cells[0] }) {
				continue
			}
			rows = append(rows, cells)
		}
		slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(strings.ToLower(a[0]), strings.ToLower(b[0])) })
		return table([]string{"client", "version", "passed", "failed"}, rows)
	})
}
