// Command lade-gate serves published ports by sockets of the host, for the
// policy gate and on the IPv6 loopback address. laded starts it when the first
// such port is published; it outlives laded, and ends when nothing is left to do.
// See internal/network/gate.
package main
