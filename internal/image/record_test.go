package image

import (
	"testing"

	"lade/internal/digest"
)

// TestOldName reads a name as it was stored before names could stand for several
// images.
func TestOldName(t *testing.T) {
	id := digest.FromBytes(nil)
	n, err := decodeName([]byte(id))
	if err != nil || len(n.Images) != 1 || n.Images[0] != id {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := decodeName([]byte("nonsense")); err == nil {
		t.Error("nonsense is a name")
	}
}
