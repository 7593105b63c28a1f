// Package stats samples what a container uses: processor time, memory, block
// I/O, processes, network.
//
// Concurrency: a Sampler has no state; each stream keeps its own last sample.
//
// Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1; the form of a
// sample is that of the Docker Engine API.
package stats
