// Package crash shows that nothing is lost or orphaned: the daemon, the
// supervisor, or both are killed at any moment, and the next start brings back
// what was acknowledged and nothing else.
package crash
