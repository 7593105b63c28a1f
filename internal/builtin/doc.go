// Package builtin makes the image that needs no registry: lade/hello, a shell
// and the usual small programs in one static binary (cmd/lade-userland), so
// that the first container on a new machine works offline.
//
// The layer is packed at build time by the program in pack (a tar compressed
// with zstd, embedded here) and depends on nothing but the source: no times, no
// owners, no order of a file system. The configuration is made here from
// constants, so that the same build gives the same image id everywhere.
//
// An image of that name that somebody made is left alone; one that an older
// build made is replaced, which its label tells.
//
// Sources: OCI image-spec layer.md, config.md; filesystem hierarchy in hier(7);
// os-release(5), passwd(5).
package builtin
