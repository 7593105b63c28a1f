package nft

import (
	"encoding/hex"
	"strings"
	"testing"
)

// TestSetPort compares an expression with bytes worked out by hand from
// include/uapi/linux/netfilter/nf_tables.h; internal/supervisor/server shows what
// it does.
func TestSetPort(t *testing.T) {
	b := NewBatch("t")
	SetDstPort(0, ChecksumTCP).data(b)
	want := strings.ReplaceAll("0800 0500 00000008"+ // source register
		"0800 0200 00000002 0800 0300 00000002 0800 0400 00000002"+ // transport header, offset, length
		"0800 0600 00000001 0800 0700 00000010", " ", "") // the Internet's checksum, offset
	if got := hex.EncodeToString(b.r.Bytes()); !strings.HasSuffix(got, want) {
		t.Errorf("%s, want …%s", got, want)
	}
}
