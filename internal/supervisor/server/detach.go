package server

import "bytes"

// detacher finds a key sequence in a client's input, also across reads.
type detacher struct {
	keys []byte
	have int // keys that were seen and held back
}

// feed returns what of data goes on to the process, and whether the sequence
// was typed; what comes after it is dropped. Keys that turn out not to be the
// sequence are passed on late, with what follows them.
func (d *detacher) feed(data []byte) (pass []byte, detached bool) {
	if len(d.keys) == 0 {
		return data, false
	}
	if d.have == 0 && bytes.IndexByte(data, d.keys[0]) < 0 {
		return data, false
	}
	for _, c := range data {
		// Go back to the longest begin of the sequence that c continues.
		for d.have > 0 && c != d.keys[d.have] {
			shorter := border(d.keys[:d.have])
			pass = append(pass, d.keys[:d.have-shorter]...)
			d.have = shorter
		}
		if c != d.keys[d.have] {
			pass = append(pass, c)
			continue
		}
		if d.have++; d.have == len(d.keys) {
			return pass, true
		}
	}
	return pass, false
}

// rest returns the keys that are held back, at the end of the input.
func (d *detacher) rest() []byte {
	held := d.keys[:d.have]
	d.have = 0
	return held
}

// border returns the length of the longest proper prefix of s that is also its
// suffix.
func border(s []byte) int {
	for n := len(s) - 1; n > 0; n-- {
		if bytes.HasSuffix(s, s[:n]) {
			return n
		}
	}
	return 0
}
