// Package store keeps the engine's records: a few thousand small values under
// (bucket, key), written in atomic batches, read rarely.
//
// A batch is appended to a log; the log is folded into a bbolt file in the
// background. bbolt alone needs two syncs a commit and one commit at a time;
// the log needs one fdatasync(2) for every batch that waits for it together
// (docs/adr/0002). There are two log files, used in turn, so that writing goes
// on while the other one is folded.
//
// On disk, in one directory:
//
//	records.db   bbolt: one bucket each, and "meta" with the last folded sequence number
//	log.0 log.1  frames, from offset 0, overwritten in place when used again
//
//	frame:  length u32 | crc32c u32 | sequence u64 | operations      (little endian)
//	operation:  'P' bucket key value | 'D' bucket key     (each: uvarint length, bytes)
//
// The checksum covers the sequence number and the operations. Sequence numbers
// grow by one with every frame; a frame that does not continue the sequence is
// left over from an earlier use of the file and ends it.
//
// Crash behaviour: after Append a batch survives the death of the process,
// after Commit that of the machine. A torn last frame is dropped. A failed
// write or sync poisons the store: every later write fails with the first
// error, because what reached the disk is unknown (fsync(2), "errors").
//
// Concurrency: every method may be called at any time. Lock order: fold, sync, mu.
package store
