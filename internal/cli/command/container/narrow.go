package container

import (
	"unicode/utf8"

	"lade/internal/cli/format"
)

// column is a column of the list of containers, with what it gives up for a
// narrow terminal.
type column struct {
	field, heading string
	drop           int // columns with a higher number go first; 0 stays
	least          int // may be cut to so many characters; 0: is not cut
}

// gap is what the table writer leaves between columns, and least is the width
// below which it makes none: see format.Write.
const (
	gap        = 3
	leastWidth = 10
)

// narrowed returns the format of the list for a terminal of so many columns, and
// cuts the rows where it must. A table that fits is Docker's; one that does not
// gives up the command, then the age, then cuts ports, images and names.
func narrowed(rows []format.Row, width int, size bool) string {
	all := []column{
		{"ID", "CONTAINER ID", 0, 0}, {"Image", "IMAGE", 0, 12}, {"Command", "COMMAND", 3, 0}, {"RunningFor", "CREATED", 2, 0},
		{"Status", "STATUS", 0, 0}, {"Ports", "PORTS", 0, 12}, {"Names", "NAMES", 0, 16},
	}
	if size {
		all = append(all, column{"Size", "SIZE", 0, 0})
	}
	for drop := 3; drop > 1 && total(all, rows) > width; drop-- {
		kept := all[:0:0]
		for _, c := range all {
			if c.drop != drop {
				kept = append(kept, c)
			}
		}
		all = kept
	}
	for _, field := range []string{"Ports", "Image", "Names"} {
		for _, c := range all {
			if over := total(all, rows) - width; c.field == field && over > 0 {
				most := max(c.least, widest(c, rows)-over)
				for _, r := range rows {
					if s, ok := r[field].(string); ok {
						r[field] = format.Ellipsis(s, most)
					}
				}
			}
		}
	}
	t := "table "
	for i, c := range all {
		if i > 0 {
			t += "\t"
		}
		t += "{{." + c.field + "}}"
	}
	return t
}

// total is the width of the table.
func total(all []column, rows []format.Row) (n int) {
	for i, c := range all {
		w := widest(c, rows)
		if i < len(all)-1 { // the last cell of a line is not padded
			w = max(w+gap, leastWidth)
		}
		n += w
	}
	return n
}

// widest is the length of the longest cell of a column.
func widest(c column, rows []format.Row) int {
	n := utf8.RuneCountInString(c.heading)
	for _, r := range rows {
		if s, ok := r[c.field].(string); ok {
			n = max(n, utf8.RuneCountInString(s))
		}
	}
	return n
}
