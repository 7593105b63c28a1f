// Package top lists the processes of a container as ps(1) does. For the columns
// of `ps -ef` no program is run; for others the host's ps is.
//
// Concurrency: a Lister has no state; every call stands alone.
//
// Sources: ps(1), proc(5).
package top
