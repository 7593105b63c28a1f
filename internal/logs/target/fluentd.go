package target

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"

	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// fluentd makes one entry of the forward protocol's message mode per message:
// [tag, time, record], with an option that asks for an answer if one is wanted.
type fluentd struct {
	t      *wire.Target
	extra  [][2]string
	packet []byte
	number uint64 // of the last packet
}

func newFluentd(t *wire.Target) *fluentd {
	f := &fluentd{t: t}
	for _, k := range slices.Sorted(maps.Keys(t.Fields)) {
		f.extra = append(f.extra, [2]string{k, t.Fields[k]})
	}
	return f
}

func (f *fluentd) Encode(m *logs.Message, emit func([]byte)) {
	b := append(f.packet[:0], 0x93)
	if f.t.Ack {
		b[0] = 0x94
	}
	b = appendStr(b, f.t.Tag)
	b = f.appendTime(b, m)
	record := append([][2]string{
		{"container_id", f.t.Container}, {"container_name", "/" + f.t.Name}, {"source", m.Stream.String()}, {"log", string(text(m))},
	}, f.extra...)
	if m.Part.ID != "" {
		record = append(record, [2]string{"partial_message", "true"}, [2]string{"partial_id", m.Part.ID},
			[2]string{"partial_ordinal", strconv.Itoa(m.Part.Ordinal)}, [2]string{"partial_last", strconv.FormatBool(m.Part.Last)})
	}
	b = append(b, 0xde)
	b = binary.BigEndian.AppendUint16(b, uint16(len(record)))
	for _, kv := range record {
		b = appendStr(appendStr(b, kv[0]), kv[1])
	}
	if f.t.Ack {
		f.number++
		var id [16]byte
		binary.BigEndian.PutUint64(id[8:], f.number)
		b = appendStr(append(b, 0x81), "chunk")
		b = appendStr(b, base64.StdEncoding.EncodeToString(id[:]))
	}
	f.packet = b
	emit(b)
}

// appendTime appends seconds, or an EventTime: an extension of type 0 with
// seconds and nanoseconds.
func (f *fluentd) appendTime(b []byte, m *logs.Message) []byte {
	seconds := uint32(m.Time.Unix())
	if !f.t.SubSecond {
		return binary.BigEndian.AppendUint32(append(b, 0xce), seconds)
	}
	b = binary.BigEndian.AppendUint32(append(b, 0xd7, 0), seconds)
	return binary.BigEndian.AppendUint32(b, uint32(m.Time.Nanosecond()))
}

// appendStr appends a MessagePack string.
func appendStr(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func (f *fluentd) Acknowledges() bool { return f.t.Ack }

// Acks implements Encoder: each answer is {"ack": chunk}. They come in the
// order of the packets, because one connection is read by one.
func (f *fluentd) Acks(sent []byte) (packets, used int, ok bool) {
	if !f.t.Ack {
		return 0, len(sent), true
	}
	head := []byte{0x81, 0xa3, 'a', 'c', 'k'}
	for {
		rest := sent[used:]
		if n := min(len(rest), len(head)); !bytes.Equal(rest[:n], head[:n]) {
			return packets, used, false
		}
		if len(rest) <= len(head) {
			return packets, used, true
		}
		size, n := 0, len(head)+1
		switch c := rest[len(head)]; {
		case c&0xe0 == 0xa0:
			size = int(c & 0x1f)
		case c == 0xd9:
			if len(rest) == n {
				return packets, used, true
			}
			size = int(rest[n])
			n++
		default:
			return packets, used, false
		}
		if len(rest) < n+size {
			return packets, used, true
		}
		used += n + size
		packets++
	}
}
