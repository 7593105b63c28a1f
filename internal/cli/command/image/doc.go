// Package image holds the commands on images: list, pull, push, load, save,
// import, tag, remove, and the accounts at registries they come from.
//
// Sources: docs.docker.com/reference/cli/docker/image, Docker Engine API
// (images/…), github.com/distribution/reference for names.
package image
