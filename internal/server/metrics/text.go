package metrics

import (
	"bytes"
	"strconv"
	"strings"
)

// Kinds of metrics.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// family is a metric with all its samples, which the format wants together.
type family struct {
	name, kind, help string
	samples          []sample
}

type sample struct {
	suffix string // of the name: _bucket, _sum, _count
	labels []string
	value  float64
}

func (f *family) add(value float64, labels ...string) {
	f.samples = append(f.samples, sample{"", labels, value})
}

// write appends the family; labels are names and values in turn.
func (f *family) write(b *bytes.Buffer) {
	if len(f.samples) == 0 {
		return
	}
	b.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + f.kind + "\n")
	for _, s := range f.samples {
		b.WriteString(f.name + s.suffix)
		for i := 0; i+1 < len(s.labels); i += 2 {
			b.WriteByte("{,"[min(i, 1)])
			b.WriteString(s.labels[i] + `="`)
			b.WriteString(escaped.Replace(s.labels[i+1]))
			b.WriteByte('"')
		}
		if len(s.labels) > 0 {
			b.WriteByte('}')
		}
		b.WriteByte(' ')
		b.Write(strconv.AppendFloat(b.AvailableBuffer(), s.value, 'g', -1, 64))
		b.WriteByte('\n')
	}
}

var escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
