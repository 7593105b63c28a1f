// Package resctrl puts processes into groups of the resctrl file system, which
// share parts of the processor's caches and memory bandwidth.
//
// Sources: Documentation/filesystems/resctrl.rst; OCI runtime-spec,
// config-linux.md, "IntelRdt".
//
// An FS is a value; nothing is kept between calls. What two callers do with
// groups of the same name at once is up to the kernel.
package resctrl
