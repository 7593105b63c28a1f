package format

import (
	"bytes"
	"testing"
)

// TestBadField: what a list says of a field that is not there is what Docker's
// client says, and nothing is printed.
func TestBadField(t *testing.T) {
	header := Header{Kind: "formatter.volumeContext", "Name": "VOLUME NAME"}
	for format, want := range map[string]string{
		"{{.Nope}}":                `template parsing error: template: :1:2: executing "" at <.Nope>: can't evaluate field Nope in type *formatter.volumeContext`,
		"{{.Name}} {{.Name.Nope}}": `template parsing error: template: :1:17: executing "" at <.Name.Nope>: can't evaluate field Nope in type string`,
		"table {{.Nope}}":          `template parsing error: template: :1:2: executing "" at <.Nope>: can't evaluate field Nope in type *formatter.volumeContext`,
	} {
		var out bytes.Buffer
		if err := Write(&out, format, header, []Row{{"Name": "v"}}); err == nil || err.Error() != want || out.Len() > 0 {
			t.Errorf("%s: %v, %q", format, err, &out)
		}
	}
	var out bytes.Buffer
	if err := Write(&out, "table {{.Name}}", header, []Row{{"Name": "v"}}); err != nil || out.String() != "VOLUME NAME\nv\n" {
		t.Errorf("%v, %q", err, &out)
	}
}
