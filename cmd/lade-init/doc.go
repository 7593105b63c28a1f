// Command lade-init is process 1 of a container that asked for --init: it
// starts the container's command as its only child, passes signals on to it,
// reaps every orphan, and ends with the command's exit status. In another's PID
// namespace it is not process 1, and sees to it that it gets the orphans of its
// own container all the same.
//
//	lade-init [-g] -- COMMAND [ARGUMENT…]
//	lade-init --hold
//	lade-init --tty -- COMMAND [ARGUMENT…]
//
// In the second form it does nothing until the end of its standard input: it
// holds a control group that needs a process (internal/linux/systemd). In the
// third it makes the terminal on its standard input the controlling one and
// becomes the command (internal/runtime/lxc).
//
// As soon as it passes signals on, it writes a byte to descriptor 3, if that is a
// pipe (internal/runtime), and closes it.
//
// Sources: the behaviour of tini, which Docker's --init uses (its messages and
// exit codes too); signal(7), wait(2), tcsetpgrp(3), pid_namespaces(7).
//
// The command gets a process group of its own, in the foreground of the
// terminal if there is one. Signals go to the child, with -g to its group. It
// ends with 128+n when signal n killed the command, 127 when there is no such
// command, 126 when it cannot be executed.
package main
