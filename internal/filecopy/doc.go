// Package filecopy copies the content of files inside the kernel: shared where
// the file system can, else from one's cached pages into the other's without a
// buffer in between, and holes stay holes.
//
// Which call does it depends on where the files are. A clone and
// copy_file_range(2) need both on one file system, and an overlay is one by
// itself; sendfile(2) takes any two files. What none of them takes, files of
// /proc among others, is read and written.
//
// Concurrency: a Copier belongs to one goroutine.
//
// Sources: ioctl_ficlonerange(2), copy_file_range(2), sendfile(2), lseek(2) for
// holes.
package filecopy
