package imagetest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"lade/internal/digest"
	"lade/internal/store"
)

// Multiply adds n images to a data root that nobody has open: copies of the
// first image there that differ by their author, named many:0 and so on.
func Multiply(t testing.TB, dir string, n int) {
	t.Helper()
	s, err := store.Open(filepath.Join(dir, "records"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, raw := range s.Walk("images") {
		var b store.Batch
		for i := range n {
			var record map[string]any
			if err := json.Unmarshal(raw, &record); err != nil {
				t.Fatal(err)
			}
			config := record["Config"].(map[string]any)
			config["author"] = strconv.Itoa(i)
			text, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			changed, err := json.Marshal(record)
			if err != nil {
				t.Fatal(err)
			}
			id := digest.FromBytes(text)
			if err := os.WriteFile(filepath.Join(dir, "content/blobs/sha256", id.Hex()), text, 0o600); err != nil {
				t.Fatal(err)
			}
			b.Put("images", id.String(), changed)
			b.Put("names", fmt.Sprintf("docker.io/library/many:%d", i), []byte(id))
		}
		if err := s.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no image to make more of")
}
