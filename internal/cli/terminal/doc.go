// Package terminal is the client's own terminal: what is one, how large it is,
// raw mode, window changes, and the key sequence that detaches from a container.
//
// Sources: termios(3), ioctl_tty(2), signal(7); docs.docker.com/reference/cli/docker/container/attach
// ("Override the detach sequence").
//
// An In is used by one reader; Raw and Restore may be called by any goroutine.
package terminal
