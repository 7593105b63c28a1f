// Package xattr reads and writes the extended attributes of files.
//
// A file is named by its open descriptor, or by a directory and a name in it.
// The kernel knows the second form only from 6.13 on (setxattrat(2)), so that
// it is written here as a path below /proc/self/fd, which needs /proc but
// neither follows a link in the last component nor depends on any other.
//
// Sources: xattr(7), setxattr(2), listxattr(2), proc_pid_fd(5).
//
// The functions keep no state and may be called from many goroutines.
package xattr
