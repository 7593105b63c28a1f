// Package dns answers what a container's name server is asked: the names of
// the networks that the container is on. It has no sockets: a query comes in as
// bytes, and an answer, or the word that others must be asked, goes out.
//
//	View (one container) ── Member ── Network ── table (immutable)
//	                     └─ Member ── Network ── table
//	                          └ links: names for this container only
//
// A name is looked up in the container's networks in their order, and the first
// that has it gives all addresses; "name.network" asks one network alone. What a
// network has is one table, which Set replaces as a whole.
//
// Names are compared without regard to the case of ASCII letters. A name that has
// addresses of the other family only is answered without one (NODATA) and not
// with NXDOMAIN, after which a resolver would ask no more. Only A, AAAA and PTR of
// names that are known are answered here, as Docker does; everything else is for
// the servers outside, whose answers come back as they are: Prepare gives their
// copy of a query an id of its own, and Match says whether an answer is one to it.
//
// Concurrency: a Network may be used by several goroutines; a View by one at a
// time.
//
// Sources: RFC 1035 (messages, 4.2.1 for truncation), RFC 2308 (NODATA), RFC 3596
// (AAAA, ip6.arpa), RFC 5452 (what to check in an answer), RFC 6891 (EDNS0);
// Docker's "Networking overview", "DNS services".
package dns
