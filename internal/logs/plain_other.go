//go:build !amd64

package logs

import (
	"encoding/binary"
	"math/bits"
)

// plain returns how many bytes at the begin of text certainly need no escape:
// each is at least 0x20, below 0x80, and none of " & < > \. It looks at whole
// groups of bytes only, so up to 7 at the end are not counted.
func plain(text []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i := 0; i+8 <= len(text); i += 8 {
		v := binary.LittleEndian.Uint64(text[i:])
		// A byte's highest bit is set where it is bad. A borrow reaches only bytes
		// after a bad one, so the lowest bit that is set is right.
		bad := v                     // 0x80 and above
		bad |= v - ones*0x20         // below 0x20
		bad |= (v ^ ones*'"') - ones // zero after the exclusive or
		bad |= (v ^ ones*'&') - ones
		bad |= (v&^(ones*2) ^ ones*'<') - ones // < and > differ in one bit
		bad |= (v ^ ones*'\\') - ones
		if bad &= highs; bad != 0 {
			return i + bits.TrailingZeros64(bad)/8
		}
	}
	return len(text) &^ 7
}
