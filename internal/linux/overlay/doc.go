// Package overlay mounts overlayfs: several directories seen as one.
//
// Sources: Documentation/filesystems/overlayfs.rst, fsopen(2), fsconfig(2),
// fsmount(2), mount(2).
//
// A mount is made detached: it is nowhere in the file system until somebody
// attaches the descriptor, and it ends with its last descriptor. Layers are
// named one by one ("lowerdir+", Linux 6.5); on older kernels, which want all
// of them in one page of options, by descriptors in /proc/self/fd, whose paths
// are short and contain nothing that needs escaping.
package overlay
