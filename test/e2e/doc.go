// Package e2e runs the same scripts through lade and through the docker
// client, against one private engine: what one says and exits with, the other
// must too.
package e2e
