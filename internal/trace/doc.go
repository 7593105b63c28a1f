// Package trace is the one hook through which every mutation of the kernel and
// every state transition passes: it prints them (LADE_TRACE=mount,cgroup,…),
// and keeps the last ones for a bug report.
//
// The environment variable LADE_TRACE holds a comma-separated list of kinds,
// or "all". Each event becomes one line on standard error:
//
//	trace mount overlay /var/lib/lade/… 142µs ok
//
// When nothing is traced, Begin costs one atomic load and one clock reading.
package trace
