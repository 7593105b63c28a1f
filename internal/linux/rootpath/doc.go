// Package rootpath resolves paths inside a container's root as the container
// would, and never outside: symbolic links and ".." stay below the root, magic
// links of /proc are refused.
//
// Sources: openat2(2) (Linux 5.6), path_resolution(7), symlink(7).
//
// The kernel resolves; a process that renames directories meanwhile cannot lead
// the result outside. Such races make openat2 fail with EAGAIN, which is retried.
package rootpath
