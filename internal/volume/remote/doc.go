// Package remote speaks Docker's protocol for volume drivers that are programs of
// their own: such a driver makes volumes by name, mounts one on the host for
// whoever needs it, and says where.
//
//	Create ─ Mount ─ … ─ Unmount ─ Remove      Get, List, Path, Capabilities
//
// Concurrency: a Driver may be used by several goroutines.
//
// Source: docs/extend/plugins_volume.md of github.com/docker/cli.
package remote
