// Package health decides when the health of each container is checked.
//
// All checks to come stand in one heap, for the first of which one timer runs:
// a container that is not being checked right now costs a few words of memory,
// no goroutine and no timer. A check runs in a goroutine of its own, so a slow
// one delays no other; the next check of the same container is due an interval
// after its end.
//
// Concurrency: mu guards everything, and is not held while a check runs.
//
// Source: HEALTHCHECK in the Dockerfile reference.
package health
