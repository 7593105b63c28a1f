// Package proc reads what the kernel says of processes and of the machine's
// time in /proc.
//
// Source: proc_pid_stat(5), proc_pid_cmdline(5), proc_stat(5).
package proc
