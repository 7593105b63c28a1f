// Package snapshottest is the suite that every snapshot.Snapshotter passes. A
// driver's test calls Run and names how to open the driver:
//
//	func TestConformance(t *testing.T) {
//		need.Root(t)
//		snapshottest.Run(t, func(root string) (snapshot.Snapshotter, error) { return New(root, log) })
//	}
//
// The suite mounts snapshots as the runtime does, but without attaching the
// mounts anywhere, so that nothing can stay behind.
package snapshottest
