package zfs

import (
	"log/slog"

	"lade/internal/snapshot"
)

// Survey reads the records in a driver's directory without opening it; see
// snapshot.Survey.
func Survey(root string, log *slog.Logger) ([]snapshot.Info, []string, error) {
	return snapshot.Survey(root, &Driver{}, log)
}
