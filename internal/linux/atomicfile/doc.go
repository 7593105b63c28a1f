// Package atomicfile replaces files so that a reader, and the machine after a
// power cut, sees either the old content or the new one, never a part.
//
// The order is: write a temporary file in the same directory, fsync(2) it,
// rename(2) it, fsync(2) the directory. A failed sync is an error: the kernel
// may have dropped the dirty pages, so that a second fsync would lie.
//
// Sources: rename(2), fsync(2) (“does not necessarily ensure that the entry in
// the directory containing the file has also reached disk”).
//
// Concurrency: calls for different paths are independent; of two calls for the
// same path the last rename wins. A crash may leave a temporary file, named
// .tmp-*, in the directory: its owner calls RemoveTemporary at its next start.
package atomicfile
