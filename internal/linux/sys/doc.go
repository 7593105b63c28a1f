// Package sys holds what every package below internal/linux needs of the
// system call layer: what the running kernel can do, and errors that keep the
// kernel's word together with the call and its object.
//
// Sources: syscalls(2), uname(2), path_resolution(7).
//
// Features are probed by trying, never by version, because distributions
// backport; see Probe. Nothing here is kept between calls.
package sys
