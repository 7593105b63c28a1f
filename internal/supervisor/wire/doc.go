// Package wire is the protocol between laded and lade-supervisor: versioned
// frames over a unix SOCK_SEQPACKET socket, file descriptors by SCM_RIGHTS.
package wire
