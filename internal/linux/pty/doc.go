// Package pty opens pseudo-terminals in a given instance of devpts, a
// container's own, without following a path that the container controls.
//
// Sources: pty(7), ioctl_tty(2) (TIOCGPTPEER, Linux 4.13),
// Documentation/filesystems/devpts.rst.
package pty
