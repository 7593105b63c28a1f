package logs

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
	"os"
	"time"
)

// The format of Docker's driver "local": each message is a LogEntry between two
// copies of its length, 4 bytes, big endian, so that a file can be read from
// either end.
//
//	message LogEntry {
//	  string source = 1;      // "stdout", "stderr"
//	  int64 time_nano = 2;
//	  bytes line = 3;         // without the newline
//	  bool partial = 4;       // no newline follows
//	  PartialLogEntryMetadata partial_log_metadata = 5;
//	}
//	message PartialLogEntryMetadata { bool last = 1; string id = 2; int32 ordinal = 3; }
//
// Source: "Encoding" in the Protocol Buffers documentation.
const (
	sizeLen = 4

	varintType = 0
	bytesType  = 2
)

// localEncoder writes FormatLocal.
type localEncoder struct{}

func (localEncoder) append(b *Buffer, m *Message) {
	at := len(b.out)
	b.out = append(b.out, 0, 0, 0, 0)
	b.out = appendBytes(b.out, 1, m.Stream.String())
	b.out = appendVarint(b.out, 2, uint64(m.Time.UnixNano()))
	line, whole := m.Line, false
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line, whole = line[:n-1], true
	}
	b.out = appendBytes(b.out, 3, line)
	if !whole {
		b.out = appendVarint(b.out, 4, 1)
	}
	if m.Part.ID != "" {
		var meta []byte
		if m.Part.Last {
			meta = appendVarint(meta, 1, 1)
		}
		meta = appendBytes(meta, 2, m.Part.ID)
		meta = appendVarint(meta, 3, uint64(m.Part.Ordinal))
		b.out = appendBytes(b.out, 5, meta)
	}
	n := uint32(len(b.out) - at - sizeLen)
	binary.BigEndian.PutUint32(b.out[at:], n)
	b.out = binary.BigEndian.AppendUint32(b.out, n)
}

// lines implements encoder.
func (localEncoder) lines(b *Buffer, stream Stream, at time.Time, data []byte, most int) (used int) {
	if len(b.tail) == 0 { // what all have before their text
		b.tail = appendBytes(b.tail, 1, stream.String())
		b.tail = appendVarint(b.tail, 2, uint64(at.UnixNano()))
		b.tail = append(b.tail, 3<<3|bytesType)
	}
	out := b.out
	for len(out) < most {
		n := bytes.IndexByte(data[used:], '\n')
		if n < 0 || n >= maxLine {
			break
		}
		size := uint32(len(b.tail) + uvarintLen(n) + n)
		out = append(binary.BigEndian.AppendUint32(out, size), b.tail...)
		out = append(binary.AppendUvarint(out, uint64(n)), data[used:used+n]...)
		out = binary.BigEndian.AppendUint32(out, size)
		used += n + 1
	}
	b.out = out
	return used
}

// uvarintLen is how many bytes binary.AppendUvarint takes for n.
func uvarintLen(n int) int { return max(1, (bits.Len(uint(n))+6)/7) }

func appendVarint(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(append(b, byte(field<<3|varintType)), v)
}

func appendBytes[T string | []byte](b []byte, field int, v T) []byte {
	b = binary.AppendUvarint(append(b, byte(field<<3|bytesType)), uint64(len(v)))
	return append(b, v...)
}

// field is one field of a protobuf message.
type field struct {
	number int
	value  uint64 // of a varint
	bytes  []byte
}

// nextField reads one field; ok is false for what is none. Fixed-width fields
// are skipped as bytes.
func nextField(b []byte) (f field, rest []byte, ok bool) {
	key, n := binary.Uvarint(b)
	if n <= 0 || key>>3 > 1<<29 {
		return f, nil, false
	}
	b, f.number = b[n:], int(key>>3)
	size := uint64(0)
	switch key & 7 {
	case varintType:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, false
		}
		return f, b[n:], true
	case bytesType:
		if size, n = binary.Uvarint(b); n <= 0 {
			return f, nil, false
		}
		b = b[n:]
	case 1:
		size = 8
	case 5:
		size = 4
	default:
		return f, nil, false
	}
	if size > uint64(len(b)) {
		return f, nil, false
	}
	f.bytes = b[:size]
	return f, b[size:], true
}

// local decodes one LogEntry.
func (d *decoder) local(b []byte) (m Message, ok bool) {
	partial := false
	for len(b) > 0 {
		var f field
		if f, b, ok = nextField(b); !ok {
			return m, false
		}
		switch f.number {
		case 1:
			if m.Stream, ok = stream(f.bytes); !ok {
				return m, false
			}
		case 2:
			m.Time = time.Unix(0, int64(f.value)).UTC()
		case 3:
			d.text = append(d.text[:0], f.bytes...)
		case 4:
			partial = f.value != 0
		case 5:
			if !m.Part.decode(f.bytes) {
				return m, false
			}
		}
	}
	if !partial {
		d.text = append(d.text, '\n')
	}
	m.Line = d.text
	return m, m.Stream != 0
}

func (p *Part) decode(b []byte) (ok bool) {
	for len(b) > 0 {
		var f field
		if f, b, ok = nextField(b); !ok {
			return false
		}
		switch f.number {
		case 1:
			p.Last = f.value != 0
		case 2:
			p.ID = string(f.bytes)
		case 3:
			p.Ordinal = int(int32(f.value))
		}
	}
	return true
}

// frame returns how long the frame at the begin of b is, 0 if b is too short to
// tell; ok is false if there is none.
func frame(b []byte) (n int, ok bool) {
	if len(b) < sizeLen {
		return 0, true
	}
	size := binary.BigEndian.Uint32(b)
	if size == 0 || size > maxRecord {
		return 0, false
	}
	n = 2*sizeLen + int(size)
	if len(b) < n {
		return n, true
	}
	return n, binary.BigEndian.Uint32(b[n-sizeLen:n]) == size
}

// tailLocal is tailOffset for FormatLocal.
func tailLocal(f *os.File, want int) (at int64, n int, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	for at = st.Size(); n < want && at > 0; n++ {
		var size [sizeLen]byte
		if _, err := f.ReadAt(size[:], at-sizeLen); err != nil {
			return 0, 0, err
		}
		l := int64(binary.BigEndian.Uint32(size[:])) + 2*sizeLen
		if l > at || l > maxRecord {
			break // what comes before cannot be read from here
		}
		at -= l
	}
	return at, n, nil
}

// mend cuts off what a crash left of a frame, so that the file can be read from
// its end.
func mend(f *os.File, st os.FileInfo) (os.FileInfo, error) {
	if at, n, err := tailLocal(f, 1); err == nil && n == 1 {
		b := make([]byte, st.Size()-at)
		if _, err := f.ReadAt(b, at); err != nil {
			return nil, err
		}
		if l, ok := frame(b); ok && l == len(b) {
			return st, nil
		}
	}
	r := newSource(io.NewSectionReader(f, 0, st.Size()), FormatLocal, nil)
	good := int64(0)
	for {
		line, err := r.next()
		if err != nil {
			break
		}
		good += int64(len(line)) + 2*sizeLen
	}
	if err := f.Truncate(good); err != nil {
		return nil, err
	}
	return f.Stat()
}
