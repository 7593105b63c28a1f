package target

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"

	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

const (
	// chunk is the most that a datagram has: what fits in one packet of the
	// Internet.
	chunk       = 1420
	chunkHeader = 12 // 2 of magic, 8 of the message's id, number, count
	maxChunks   = 128
)

// gelf makes one JSON object per message: ended by a zero on a stream, compressed
// and in chunks as datagrams.
type gelf struct {
	silent
	head   []byte // the members that every message has
	stream bool
	json   []byte
	packed bytes.Buffer
	z      packer // nil: not compressed
	packet [chunk]byte
}

// packer is what gzip and zlib have in common.
type packer interface {
	io.WriteCloser
	Reset(io.Writer)
}

func newGELF(t *wire.Target) (*gelf, error) {
	g := &gelf{stream: t.Network != "udp", head: []byte(`{"version":"1.1","host":`)}
	g.head = appendJSON(g.head, t.Host)
	for _, k := range slices.Sorted(maps.Keys(t.Fields)) {
		g.head = append(appendJSON(append(g.head, ','), k), ':')
		g.head = appendJSON(g.head, t.Fields[k])
	}
	level := t.Level
	if level == 0 {
		level = flate.BestSpeed
	}
	var err error
	switch {
	case g.stream:
	case t.Compression == "" || t.Compression == "gzip":
		g.z, err = gzip.NewWriterLevel(nil, level)
	case t.Compression == "zlib":
		g.z, err = zlib.NewWriterLevel(nil, level)
	}
	return g, err
}

func appendJSON(b []byte, s string) []byte {
	raw, err := json.Marshal(s)
	if err != nil { // a string always can
		raw = []byte(`""`)
	}
	return append(b, raw...)
}

func (g *gelf) Encode(m *logs.Message, emit func([]byte)) {
	b := append(g.json[:0], g.head...)
	b = append(b, `,"timestamp":`...)
	b = strconv.AppendFloat(b, float64(m.Time.UnixMilli())/1000, 'f', 3, 64)
	b = append(b, `,"level":`...)
	b = strconv.AppendInt(b, int64(severity(m)), 10)
	b = append(b, `,"short_message":`...)
	b = appendJSON(b, string(text(m)))
	b = append(b, '}')
	g.json = b
	if g.stream {
		emit(append(b, 0))
		return
	}
	if g.z != nil {
		g.packed.Reset()
		g.z.Reset(&g.packed)
		_, err := g.z.Write(b)
		if err == nil {
			err = g.z.Close()
		}
		if err == nil { // memory takes everything
			b = g.packed.Bytes()
		}
	}
	g.chunks(b, emit)
}

// chunks emits a datagram, or the parts of one that is too long. What needs
// too many of them cannot be sent; 16 kB do not.
func (g *gelf) chunks(b []byte, emit func([]byte)) {
	if len(b) <= chunk {
		emit(b)
		return
	}
	const room = chunk - chunkHeader
	n := (len(b) + room - 1) / room
	if n > maxChunks {
		return
	}
	p := g.packet[:]
	p[0], p[1] = 0x1e, 0x0f
	_, _ = rand.Read(p[2:10]) // it never fails
	for i := range n {
		p[10], p[11] = byte(i), byte(n)
		used := copy(p[chunkHeader:], b)
		b = b[used:]
		emit(p[:chunkHeader+used])
	}
}
