// Package selfpipe makes signals readable from a descriptor, without the Go
// runtime: the handler is a few instructions that write the signal's number to a
// pipe.
//
// os/signal does the same for every need but one: it takes two changes of threads
// for each kind of signal, nine of which cost a program that lives for 5 ms half a
// millisecond. signalfd(2) needs signals that are blocked in every thread, which
// the Go runtime does not let a program have.
//
// Sources: rt_sigaction(2), signal(7), pipe(7); "self-pipe" is D. J. Bernstein's
// word. The handler runs on the signal stack that the Go runtime has given to
// every thread (os/signal, "Non-Go programs": SA_ONSTACK).
//
// A process has one Pipe at a time; New and Close are not to be called at once.
package selfpipe
