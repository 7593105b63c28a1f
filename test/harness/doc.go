// Package harness runs a private engine for tests: its own data, sockets,
// bridge, table and control groups, beside any other engine of the machine.
// When the test ends the engine is stopped and everything that it could have
// left behind is looked for: mounts, links, nftables tables, control groups,
// processes, files.
package harness
