// Package plugin talks with Docker's plugins: programs that serve HTTP, find
// their place by a file, and are asked by the engine what it cannot decide or
// do itself. What is asked is the business of the packages that ask.
//
//	engine ── POST /Plugin.Activate ─────────► plugin
//	       ◄─ {"Implements":["authz"]} ───────
//	       ── POST /AuthZPlugin.AuthZReq {…} ─►
//	       ◄─ {…} ────────────────────────────
//
// A plugin named x is the socket /run/docker/plugins/x.sock (or x/x.sock), or
// what the file x.spec (an address) or x.json (an address with TLS) in
// /etc/docker/plugins or /usr/lib/docker/plugins says.
//
// It is looked up at its first use and again after it could not be reached, so it
// may come later than the engine, and may be restarted.
//
// Concurrency: a Plugin may be used by several goroutines.
//
// Source: docs/extend/plugin_api.md of github.com/docker/cli.
package plugin
