// Package compat holds the differences between the newest version of the
// Docker Engine API and the older ones that clients may ask for, as one table:
// operation, the version since when the newest form holds, and what to adjust
// in the query, the decoded body or the answer for clients older than that.
// Handlers speak the newest types only and never look at a version for the
// sake of a field.
//
// Sources: "Engine API version history" (docs/CHANGELOG.md of
// github.com/moby/moby/api), the per-version definitions beside it, and
// exchanges recorded from a Docker 29, which win where they differ.
//
// Invariants: an adjustment never changes a value that the engine may share
// with others; it copies what it changes. Rows of one operation stand newest
// first, so a row may rely on what the rows above it made of the value.
//
// A Table is immutable and safe for concurrent use.
package compat
