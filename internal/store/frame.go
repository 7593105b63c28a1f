package store

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
)

// header is the length of a frame before its operations.
const header = 4 + 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Bucket names a kind of record.
type Bucket string

// Batch is a list of changes that are applied together or not at all. The zero
// Batch is empty; it must not be used again after Commit or Append.
type Batch struct {
	ops []op
}

type op struct {
	bucket Bucket
	key    string
	value  []byte // nil: delete
}

// Put sets the value of a key. The store keeps the slice: the caller must not
// change it any more.
func (b *Batch) Put(bucket Bucket, key string, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.ops = append(b.ops, op{bucket, key, value})
}

// Delete removes a key; a missing one is no error.
func (b *Batch) Delete(bucket Bucket, key string) {
	b.ops = append(b.ops, op{bucket: bucket, key: key})
}

// Len returns the number of changes.
func (b *Batch) Len() int { return len(b.ops) }

// frame encodes the batch as the frame with number seq.
func (b *Batch) frame(seq uint64) []byte {
	n := header
	for _, o := range b.ops {
		n += 1 + 3*binary.MaxVarintLen32 + len(o.bucket) + len(o.key) + len(o.value)
	}
	f := make([]byte, header, n)
	for _, o := range b.ops {
		kind := byte('P')
		if o.value == nil {
			kind = 'D'
		}
		f = append(f, kind)
		f = appendField(f, []byte(o.bucket))
		f = appendField(f, []byte(o.key))
		if o.value != nil {
			f = appendField(f, o.value)
		}
	}
	binary.LittleEndian.PutUint32(f, uint32(len(f)-header))
	binary.LittleEndian.PutUint64(f[8:], seq)
	binary.LittleEndian.PutUint32(f[4:], crc32.Checksum(f[8:], castagnoli))
	return f
}

func appendField(b, field []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

// decode returns the operations of a frame's body; ok is false for a body that
// frame cannot have written.
func decode(body []byte) (ops []op, ok bool) {
	field := func() []byte {
		n, k := binary.Uvarint(body)
		if k <= 0 || n > uint64(len(body)-k) {
			ok = false
			return nil
		}
		f := body[k : k+int(n) : k+int(n)]
		body = body[k+int(n):]
		return f
	}
	ok = true
	for ok && len(body) > 0 {
		kind := body[0]
		body = body[1:]
		o := op{bucket: Bucket(field()), key: string(field())}
		switch kind {
		case 'P':
			if o.value = field(); o.value == nil {
				o.value = []byte{}
			}
		case 'D':
		default:
			return nil, false
		}
		ops = append(ops, o)
	}
	return ops, ok
}

// entry is a frame read back.
type entry struct {
	seq uint64
	ops []op
}

// scan returns the frames that stand in sequence from the start of the file.
func scan(f *os.File) ([]entry, error) {
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var out []entry
	for len(data) >= header {
		n := int(binary.LittleEndian.Uint32(data))
		if n == 0 || n > len(data)-header {
			break
		}
		sum, rest := binary.LittleEndian.Uint32(data[4:]), data[8:header+n]
		seq := binary.LittleEndian.Uint64(rest)
		if crc32.Checksum(rest, castagnoli) != sum || (len(out) > 0 && seq != out[len(out)-1].seq+1) {
			break
		}
		ops, ok := decode(rest[8:])
		if !ok {
			break
		}
		out = append(out, entry{seq, ops})
		data = data[header+n:]
	}
	return out, nil
}
