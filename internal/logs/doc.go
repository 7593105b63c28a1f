// Package logs keeps what containers print: a writer for the supervisor and a
// reader for the daemon, over files in Docker's json-file format.
//
// # Format
//
// One message per line, in the order and with the escapes of Docker's own
// encoder, so that log shippers that read Docker's files read these:
//
//	{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2026-01-02T03:04:05.678901234Z"}
//
// The time is RFC 3339 in UTC with trailing zeros cut. attrs is absent when
// there are none. A line longer than 16 kB is several messages, of which only
// the last has the newline; all carry the time of the first. What is no UTF-8
// becomes U+FFFD. Lines of one Write carry the same time.
//
// # Rotation
//
// A file that reached MaxSize is renamed to .1, .1 to .2 and so on; MaxFile-1
// renamed ones are kept. Files are never cut, so a reader that has one open
// reads it to its end and finds the next one by the file's identity (device
// and inode), however often it was renamed meanwhile.
//
// # Invariants
//
//   - A writer has at most 16 kB of a stream in memory: a line whose newline did
//     not come yet. Everything else is in the file when Write returns.
//   - After a failed write the file ends with a whole line. After a crash it may
//     not; readers skip what is no message.
//   - There is one writer per path. Readers need no lock: they take complete
//     lines only, and notice rotation and growth by inotify(7) on the directory,
//     or by polling where no instance is left.
//
// Concurrency: a Writer and a Buffer belong to one goroutine; each range over
// Open's sequence is independent and, when following, has one goroutine that
// ends with it.
package logs
