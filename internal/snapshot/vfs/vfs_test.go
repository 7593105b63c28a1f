package vfs

import (
	"log/slog"
	"testing"

	"lade/internal/need"
	"lade/internal/snapshot"
	"lade/internal/snapshot/snapshottest"
)

func TestConformance(t *testing.T) {
	need.Root(t)
	snapshottest.Run(t, func(root string) (snapshot.Snapshotter, error) { return New(root, slog.New(slog.DiscardHandler)) })
}

// TestLimit fills snapshots that have limits.
func TestLimit(t *testing.T) {
	need.Root(t)
	snapshottest.Project(t, func(root string) (snapshot.Snapshotter, error) { return New(root, slog.New(slog.DiscardHandler)) })
}
