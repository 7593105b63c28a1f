// Package logdriver reads what a user asks of a container's log: a driver and
// its options, in Docker's words, and says to the supervisor what that means.
//
// Everything that needs a resolver, a regular expression or a template is done
// here, so that the supervisor needs none: names of hosts become addresses, tags
// are expanded, labels and variables are chosen.
//
// The functions are pure but for Log, which looks names up.
//
// Source: the pages of Docker's logging drivers.
package logdriver
