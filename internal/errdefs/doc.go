// Package errdefs names the kinds of failure that users can tell apart.
//
// An error is classified once, where its meaning is known, by one of the
// constructors (NotFoundf, Conflictf, …). Layers above wrap it with %w and add
// facts. The faces (server, cri, cli) translate the kind to their own status
// in one table each. An error without a kind is Internal; fs.ErrNotExist never
// becomes NotFound by itself, because a missing internal file is our fault.
package errdefs
