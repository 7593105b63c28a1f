//go:build !amd64

package logs

import (
	"encoding/binary"
	"math/bits"
)

// quote copies text to dst as the inside of a JSON string, as far as it is
// printable ASCII without < > &, and returns how much of both that was. It looks
// at whole groups of bytes only, so up to 15 at the end of text are left. dst
// must have room for 2*len(text)+16 bytes, some of which may be overwritten
// beyond what counts.
func quote(dst, text []byte) (wrote, read int) {
	for read+8 <= len(text) {
		v := binary.LittleEndian.Uint64(text[read:])
		binary.LittleEndian.PutUint64(dst[wrote:], v)
		n := firstSpecial(v)
		wrote, read = wrote+n, read+n
		if n == 8 {
			continue
		}
		c := text[read]
		if c != '"' && c != '\\' {
			break
		}
		dst[wrote], dst[wrote+1] = '\\', c
		wrote, read = wrote+2, read+1
	}
	return wrote, read
}

// firstSpecial returns which of eight bytes is the first that is below 0x20,
// above 0x7f, or one of " & < > \; 8 if none is.
func firstSpecial(v uint64) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	// A byte's highest bit is set where it is bad. A borrow reaches only bytes
	// after a bad one, so the lowest bit that is set is right.
	bad := v                     // 0x80 and above
	bad |= v - ones*0x20         // below 0x20
	bad |= (v ^ ones*'"') - ones // zero after the exclusive or
	bad |= (v ^ ones*'&') - ones
	bad |= (v&^(ones*2) ^ ones*'<') - ones // < and > differ in one bit
	bad |= (v ^ ones*'\\') - ones
	return bits.TrailingZeros64(bad&highs) / 8
}
