// Package profile has Docker's profiles of system calls, as the OCI runtime
// specification writes them: the default one, and those of users in Docker's
// JSON. Package seccomp compiles them; what only does that, such as lade-runtime,
// has no part of this one.
//
// Source: Docker's seccomp documentation; github.com/moby/profiles.
package profile
