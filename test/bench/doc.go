// Package bench measures what SPECIFICATION.md promises, against a private
// engine: `make bench`. Every time is also given as a multiple of a bare
// vfork and exec in the same run, because machines differ and are busy.
package bench
