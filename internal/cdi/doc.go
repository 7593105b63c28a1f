// Package cdi reads the files of the Container Device Interface, in which vendors
// say what a container needs for a device of theirs: nodes in /dev, libraries to
// mount, variables, hooks of the OCI runtime. A device has a name of the form
// vendor.example/class=name; what it brings is put into a specification.
//
// The files (YAML or JSON) are read anew for each container that asks for such a
// device: they change when a driver is updated or a card is plugged in. One that
// cannot be read takes away no other's devices.
//
// Concurrency: nothing is shared; a Registry is not changed after Read.
//
// Source: SPEC.md of github.com/cncf-tags/container-device-interface, version 1.1.0.
package cdi
