// Package apparmor makes the engine's AppArmor profile and has the kernel load
// it.
//
// The kernel takes profiles compiled (securityfs, apparmor/.replace), in a form
// that changes with its version; apparmor_parser(8) is what compiles them, and
// what every distribution with AppArmor has. It runs once, when the engine
// starts, and never when a container does. Applied is a profile by the start
// program, which writes to /proc/self/attr (lade/internal/runtime).
//
// Sources: apparmor(7), apparmor.d(5), apparmor_parser(8); the kernel's
// Documentation/admin-guide/LSM/apparmor.rst.
//
// Nothing here keeps state; everything may be called at any time.
package apparmor
