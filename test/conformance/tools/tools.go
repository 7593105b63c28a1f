//go:build tools

// Package tools pins the outside judges and what they are built from, in a
// module of its own, so that nothing of it enters the product's graph.
package tools

import (
	_ "github.com/opencontainers/runtime-tools/cmd/runtimetest"
	_ "github.com/opencontainers/runtime-tools/validation/util"
)
