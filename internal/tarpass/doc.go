// Package tarpass is a tar stream on a unix socket whose large files travel as
// descriptors (SCM_RIGHTS) instead of bytes, so that who receives it copies their
// content inside the kernel. `lade cp` and laded speak it when both are on one
// machine; all else of a copy, names, owners, links, times, is as in any archive.
//
// A client asks for it at the two archive operations of the API with the header
// "Upgrade: lade-files", and is answered 101. Then
//
//	client → daemon   one byte with a descriptor: is this really one machine?
//	daemon → client   one byte with a descriptor
//	sender → receiver the tar
//	daemon → client   the verdict: a JSON object with the message of the error,
//	                  empty if there was none
//
// after the end of the sender's direction if the client sends, after the tar if
// the daemon does. Where descriptors do not come through (a proxy, TCP, another
// engine) the daemon closes the connection, and the client copies without.
//
// In the tar the entry of a file that is passed has size zero and the pax record
// LADE.size, the number of its bytes. Its descriptor, open for reading, comes
// with the bytes of its header; descriptors are in the order of their entries.
//
// A descriptor comes from the other side and is trusted with nothing: it must be
// of a regular file, and not of one that a program serves (FUSE), which could
// hold up who reads it for as long as it likes, or of /proc, where what is read
// may depend on who reads.
//
// Concurrency: a Conn has one reader and one writer at a time.
//
// Sources: unix(7), cmsg(3); POSIX pax, "vendor.keyword" records.
package tarpass
