// Package disk keeps the file system of the data root from filling up, by the
// policy of daemon.json ("disk"; docs/volumes.md): above the high water mark it
// removes what was not used for longest, containers that have ended and images
// that no container needs, until the low one is reached. Without a policy it
// removes nothing.
//
// Volumes are never removed, nor is what was used within a given time, carries a
// protected label, or came into use while the collector looked: who owns an
// object refuses then, and it stays.
//
// Concurrency: one collection at a time; the objects are asked for at its
// beginning.
//
// Sources: statfs(2).
package disk
