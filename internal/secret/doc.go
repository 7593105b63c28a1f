// Package secret keeps secrets and configs: small values with names that
// containers find in files, without a swarm. Both are kept the same way; they
// differ in what the API shows of them, and in their largest size.
//
// At rest a value is sealed: AES-256 in Galois/Counter Mode with a random nonce
// of 96 bits (NIST SP 800-38D), under a key of 32 random bytes in the file
// secret.key beside the records, which only the owner can read. Kind and id are
// authenticated with the value, so that no value can be put in another's place.
// A copy of the records without the key tells names and labels, nothing else
// (docs/adr/0038).
//
//	bucket "secrets"   id -> Object as JSON, the value in it sealed
//
// The key is made, durably, before the first value is sealed with it, and never
// anew while there is a value: what cannot be opened is said, not lost.
//
// From when a value is opened the process is not dumpable: its memory is in no
// core file, and no other process of the same user can look at it
// (PR_SET_DUMPABLE(2const)).
//
// Crash behaviour: a value is durable before Create returns, and gone for good
// before Remove does. Who uses what is not recorded here: the users' own records
// say it, and Hold tells it again after a start.
//
// Concurrency: every method may be called at any time. Two locks, never held
// together: mu guards the maps and is not held across I/O; keyMu makes one
// caller read or make the key.
package secret
