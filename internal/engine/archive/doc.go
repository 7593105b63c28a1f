// Package archive holds the use cases that copy files into and out of
// containers: `cp`, `export`, `diff` and `commit`, on running containers and on
// others.
//
// Names come from outside and are resolved inside the container's root only
// (openat2, RESOLVE_IN_ROOT). A running container's root is reached through
// /proc/<pid>/root, so what it has mounted is seen; of another one a detached
// mount is made, which nobody else sees and which ends with its descriptor.
//
// Concurrency: a Copier has no state; every call stands alone.
//
// Sources: openat2(2), proc_pid_root(5), open_tree(2); the operations are those
// of the Docker Engine API.
package archive
