// Package device describes the host's device nodes for the OCI specification.
//
// Source: inode(7), makedev(3), OCI runtime-spec config-linux.md "Devices".
package device
