// Package seccomp compiles OCI seccomp profiles to BPF filters.
//
// The filter is a binary search over ranges of system call numbers for each
// architecture, so that its depth grows with the logarithm of the profile's
// size. Its meaning is that of the OCI runtime specification as runc and
// libseccomp implement it.
//
// Sources: seccomp(2); the kernel's Documentation/userspace-api/seccomp_filter.rst;
// the OCI runtime specification, config-linux.md, "Seccomp".
package seccomp
