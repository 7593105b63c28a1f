// Package packaging holds what an installation has beside the programs: the units
// of systemd, which are text with places for paths.
//
// Concurrency: nothing is changed.
//
// Source: systemd.unit(5), hier(7).
package packaging
