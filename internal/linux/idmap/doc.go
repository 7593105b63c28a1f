// Package idmap translates user and group ids between user namespaces, and
// makes mounts that do so for the files below them.
//
// Sources: user_namespaces(7), "User and group ID mappings"; mount_setattr(2),
// "ID-mapped mounts" (Linux 5.12; overlay layers from 5.19);
// Documentation/filesystems/idmappings.rst; OCI runtime-spec,
// config-linux.md, "User namespace mappings".
//
// A Map is a value; nothing is kept between calls. Every function may be called
// from many goroutines.
package idmap
