// Package buildx pins docker's plugin for builds, which the conformance tests build
// and run: a module of its own, since it agrees with no other about versions.
package buildx
