// Package escape attempts what has been published of ways out of a container,
// and what else a process inside may try against the host and the engine.
//
// Each test names the attack, makes it with a program built for it (payload),
// against laded or lade-runtime, and shows that it fails. It also makes the
// same attack against something that is open to it, a privileged container or a
// deliberately naive runtime in namespaces of its own: an attack that cannot
// succeed anywhere shows nothing.
//
// Sources: the advisories of runc, moby, containerd and crun by their numbers.
package escape
