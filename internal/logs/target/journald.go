package target

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// journald makes one datagram of fields per message.
type journald struct {
	silent
	fields []byte // those that every message has
	packet []byte
}

func newJournald(t *wire.Target) *journald {
	j := &journald{}
	for _, f := range [][2]string{
		{"CONTAINER_ID", t.Container[:min(12, len(t.Container))]}, {"CONTAINER_ID_FULL", t.Container},
		{"CONTAINER_NAME", t.Name}, {"CONTAINER_TAG", t.Tag}, {"SYSLOG_IDENTIFIER", t.Tag},
	} {
		j.fields = appendField(j.fields, f[0], f[1])
	}
	for _, k := range slices.Sorted(maps.Keys(t.Fields)) {
		j.fields = appendField(j.fields, k, t.Fields[k])
	}
	return j
}

func (j *journald) Encode(m *logs.Message, emit func([]byte)) {
	b := append(j.packet[:0], j.fields...)
	b = appendField(b, "PRIORITY", strconv.Itoa(severity(m)))
	b = appendField(b, "SYSLOG_TIMESTAMP", m.Time.UTC().Format(time.RFC3339Nano))
	if m.Part.ID != "" {
		b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", "true")
		b = appendField(b, "CONTAINER_PARTIAL_ID", m.Part.ID)
		b = appendField(b, "CONTAINER_PARTIAL_ORDINAL", strconv.Itoa(m.Part.Ordinal))
		b = appendField(b, "CONTAINER_PARTIAL_LAST", strconv.FormatBool(m.Part.Last))
	}
	b = appendField(b, "MESSAGE", string(text(m)))
	j.packet = b
	emit(b)
}

// appendField appends a field: on one line, or with its length if it has more.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if !strings.Contains(value, "\n") {
		b = append(b, '=')
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	}
	b = append(b, value...)
	return append(b, '\n')
}
