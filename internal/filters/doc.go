// Package filters reads the filters query parameter of the Docker API and
// matches objects against it.
//
// Source: Docker Engine API, "filters" parameter of list and prune endpoints:
// a JSON object of lists, {"status":["exited"]}, or, before API 1.22, of maps,
// {"status":{"exited":true}}.
package filters
