// Package etc writes the files in /etc that tell a container's C library about
// its network: hosts, hostname and resolv.conf, byte for byte as Docker does
// on the default bridge.
//
// Sources: hosts(5), resolv.conf(5), systemd-resolved.service(8)
// ("/etc/resolv.conf" modes). All functions are pure but Host, which reads the
// host's resolv.conf.
package etc
