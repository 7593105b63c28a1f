// Package vfs keeps snapshots as whole copies of their parents: a snapshot.Dirs
// (see there for the form on disk, concurrency and crashes) whose directories
// hold the complete tree in "fs". It works everywhere and costs the disk space
// and time of a copy, except where the file system can share the content of
// files (btrfs, XFS: reflink).
//
// A snapshot's directory must be written with layer.Delete: deletions are
// carried out.
package vfs
