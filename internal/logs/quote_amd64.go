package logs

// quote copies text to dst as the inside of a JSON string, as far as it is
// printable ASCII without < > &, and returns how much of both that was. It looks
// at whole groups of bytes only, so up to 15 at the end of text are left. dst
// must have room for 2*len(text)+16 bytes, some of which may be overwritten
// beyond what counts.
//
//go:noescape
func quote(dst, text []byte) (wrote, read int)
