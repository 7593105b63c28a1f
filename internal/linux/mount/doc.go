// Package mount knows the words of mounts: the options of the OCI runtime-spec
// (config.md, "Linux mount options", which are those of mount(8)) and the lines
// of mountinfo.
//
// Sources: mount(8), mount_setattr(2), fsconfig(2), proc_pid_mountinfo(5).
package mount
