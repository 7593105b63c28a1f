package logs

// plain returns how many bytes at the begin of text certainly need no escape:
// each is at least 0x20, below 0x80, and none of " & < > \. It looks at whole
// groups of bytes only, so up to 15 at the end are not counted.
//
//go:noescape
func plain(text []byte) int
