// Package spec translates what Docker's API says of a container to an OCI
// runtime specification, as dockerd does: same mounts, paths, capabilities,
// devices, sysctls, limits and messages.
//
// Build, Exec, Resources and Validate are pure functions of their arguments;
// what the host is like comes in Facts, which Detect reads once, and its
// devices through a function in Input. They may be called concurrently.
//
// Not in the specification, because the runtime finds them in the container's
// root: the user's numbers, HOME, and lade-init.
//
// Sources: the OCI runtime specification, config.md and config-linux.md; the
// Docker Engine API reference (ContainerCreate); capabilities(7), sysctl in
// namespaces(7), Documentation/admin-guide/sysctl.
package spec
