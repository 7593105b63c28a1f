// Package layer turns directories into tar streams and back: the layers of
// images, what a container changed, and what `cp` carries in and out.
//
// On disk a layer has the form of an overlay upper directory: a deleted file
// is a character device 0:0, a directory that hides what is below it carries
// the attribute trusted.overlay.opaque (user.overlay.opaque when mounted with
// the option userxattr). In a tar stream the same are the empty files
// ".wh.NAME" and ".wh..wh..opq".
//
// Nothing that a stream says can reach outside its target: names are cleaned
// and refused when they climb out, directories are opened by openat2(2) with
// RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS, and every other call names one
// entry of an open directory without following links. This holds while a
// hostile process changes the target at the same time, as it may for `cp`.
//
// Invariants of Apply: what a stream creates does not depend on the order of
// whiteouts; times of directories are set after everything else; a stream is
// read to its very end, so that a digest taken on the way covers all of it.
//
// The functions keep no state between calls and may be called from many
// goroutines, for different targets. A crash or an error leaves the target
// half written; the caller throws it away.
//
// Sources: OCI image-spec layer.md; Linux Documentation/filesystems/
// overlayfs.rst ("whiteouts and opaque directories", "Nesting overlayfs
// mounts", "userxattr"); pax(1) and GNU tar's manual for the formats, which
// archive/tar reads; openat2(2), utimensat(2).
package layer
