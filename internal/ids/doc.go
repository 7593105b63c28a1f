// Package ids makes the identifiers of containers, execs, networks and images:
// 64 hexadecimal digits, shown as their first twelve, found by any unique
// prefix; and the names of containers that were given none.
package ids
