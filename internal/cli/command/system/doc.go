// Package system holds the commands on the engine as a whole: version, info,
// events, disk usage, prune, and inspect for objects of any kind.
//
// Sources: docs.docker.com/reference/cli/docker/system, Docker Engine API
// (version, info, events, system/df).
package system
