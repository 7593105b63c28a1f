// Package pidfd handles processes by descriptor: no pid that may be somebody
// else's by now is ever signalled or waited for.
//
// Sources: pidfd_open(2), pidfd_send_signal(2), waitid(2),
// include/uapi/linux/pidfd.h.
package pidfd
