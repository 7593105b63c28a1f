// Package rootfs holds what a container sees of files: its root directory, and
// the volumes, parts of volumes, images, secrets and configs that are mounted in
// it.
//
//	rootfs.go    opens the root: of a running container, or of one at rest
//	fill.go      gives a new volume what the image has at its place
//	stage.go     mounts what has no path that could be bound as it is
//	image.go     an image as a mount
//	secrets.go   secrets and configs on a tmpfs
//
// Names come from images and users, and are resolved inside the root that they
// are meant for only (openat2, RESOLVE_IN_ROOT, RESOLVE_BENEATH). What is not
// staged is detached: nobody else sees it, and it ends with its descriptor.
//
// After a crash RecoverMounts takes away what was staged for containers that do
// not run any more.
//
// Sources: open_tree(2), move_mount(2), mount_setattr(2), openat2(2), tmpfs(5);
// Documentation/filesystems/overlayfs.rst; docs/adr/0027, docs/adr/0038.
//
// Concurrency: a Mounter has no state of its own. A container's actor sees to it
// that what is staged for it is not staged and released at the same time.
package rootfs
