package snapshot

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestTrashOrder deletes what holds up others, in whichever order it comes.
func TestTrashOrder(t *testing.T) {
	for _, order := range [][]string{{"child", "parent"}, {"parent", "child"}, {"parent", "stuck", "child"}} {
		dir := t.TempDir()
		var gone []string
		tr := newTrash(dir, func(path string) error {
			name := filepath.Base(path)
			if name == "stuck" || name == "parent" && !slices.Contains(gone, "child") {
				return errors.New("busy")
			}
			gone = append(gone, name)
			return nil
		}, slog.New(slog.DiscardHandler))
		for _, name := range order {
			if err := os.MkdirAll(filepath.Join(dir, name, "fs", "d"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		err := tr.delete(order)
		if stuck := slices.Contains(order, "stuck"); (err != nil) != stuck {
			t.Errorf("%v: %v", order, err)
		}
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range left {
			if e.Name() != "stuck" {
				t.Errorf("%v: %s is left", order, e.Name())
			}
		}
	}
}
