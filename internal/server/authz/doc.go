// Package authz asks Docker's authorization plugins whether a request may be
// done, and whether its answer may leave.
//
//	client ─► server ─► AuthZReq to each plugin ─► handler
//	client ◄─────────── AuthZRes to each plugin ◄─┘
//
// All plugins must agree, in the order of the configuration; the first that
// does not ends it with 403. One that cannot be asked, or that answers with an
// error, forbids: what the operator wanted checked is not done unchecked.
//
// A plugin sees the method, the path as the server understands it (cleaned of
// what would make it look like another), the headers without credentials, the
// body when it is JSON (a larger one than 1 MB is refused), and who a client's
// certificate says that he is. Of the answer it sees status, headers, and the
// body when it is JSON of up to 1 MB; a stream is asked for before its first
// byte, and so is a connection that is taken over. Nothing of an answer leaves
// before it was asked for.
//
// Source: docs/extend/plugins_authorization.md of github.com/docker/cli.
//
// Concurrency: a Chain may be used and replaced by several goroutines.
package authz
