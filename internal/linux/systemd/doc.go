// Package systemd has the service manager of the host make the control groups
// of containers: one transient scope for each, so that systemctl, systemd-cgls
// and limits on slices see them.
//
// A scope is made around a process that exists. A container's first process
// does not yet when its group is needed, as it is born there. So a process that
// does nothing holds the scope from [Manager.Start] until [Scope.Release]:
//
//	Start    holder runs → StartTransientUnit(PIDs=holder, limits) → JobRemoved "done"
//	         the caller starts the container in the group
//	Release  holder ends; the scope ends with the last process in it
//
// The limits are written to the files of the group as without systemd, exactly
// and where systemd has no property. They are properties of the unit too, since
// systemd writes its own idea of them again at a reload.
//
// Concurrency: a Manager may be used by many goroutines. It keeps one
// connection, made when it is first needed and again when systemd closed it.
//
// Sources: org.freedesktop.systemd1(5); systemd.resource-control(5);
// https://systemd.io/CONTROL_GROUP_INTERFACE/ and /CGROUP_DELEGATION/;
// sd_booted(3).
package systemd
