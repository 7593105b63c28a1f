// Package daemon is the root of laded: it reads the configuration, opens the
// listeners, constructs the engine from its parts, recovers, serves, and stops,
// in an order that a reader can follow.
//
//	Load    flags over environment over file over defaults, validated
//	Listen  unix sockets, TCP with TLS, sockets that systemd opened
//	…       the engine is put together and recovers what ran before
//	serve   until SIGTERM or SIGINT; SIGHUP reloads, SIGUSR1 dumps stacks
//
// Sources: dockerd(8) and docs/reference/dockerd.md of docker/cli for options,
// keys of the file and messages; systemd.socket(5), sd_listen_fds(3) and
// sd_notify(3) for what a service manager passes and wants to hear; unix(7) for
// SO_PEERCRED.
//
// Invariants: a socket is only replaced when nobody answers on it; a second
// daemon with the same process id file does not start; stopping the daemon
// stops no container.
//
// Crash behaviour: a socket or process id file that a killed daemon left
// behind is recognised as stale and replaced.
package daemon
