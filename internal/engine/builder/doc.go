// Package builder has images built: it starts lade-build when somebody wants to
// build, connects clients with it, gives it what is the engine's (images,
// networks; see package build), and ends it when nobody has used it for a while.
//
// lade-build lives no longer than laded: a pipe tells it that laded is gone. What
// a step of a build has, if lade-build or laded or both are killed:
//
//	mounts           go with lade-build's mount namespace
//	processes        are killed by their control group, below /lade/build-<engine>
//	networks         are released by laded; the links go with the namespaces
//	runtime's state  is in a directory of its own, which is removed
//
// laded does this when lade-build ends, and at its start for one of before.
//
// Concurrency: a Builder may be used by many goroutines. mu guards what runs; it
// is held while lade-build is started and cleared up, so that the next one begins
// on clean ground.
//
// Sources: mount_namespaces(7); cgroups(7).
package builder
