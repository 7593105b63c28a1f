// Package reference reads the names of images: "busybox", "host:5000/a/b:tag",
// "name@sha256:…", and writes them in their full and their familiar form.
//
//	reference := [ domain "/" ] path [ ":" tag ] [ "@" digest ]
//	domain    := host [ ":" digits ]          host: dotted name, IPv4, or [IPv6]
//	path      := component *( "/" component )
//	component := [a-z0-9]+ *( ( "." | "_" | "__" | "-"+ ) [a-z0-9]+ )
//	tag       := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//
// Normalisation is Docker's: a first component is a domain when it has a dot
// or a colon, is "localhost" or has an upper-case letter; otherwise the domain
// is docker.io, where a path of one component is below "library/".
//
// The scanner is written by hand because the engine starts on every use of its
// binaries and regular expressions would be compiled each time.
//
// Sources: distribution-spec, "Pulling manifests" (name and reference);
// the grammar and the normalisation of the distribution project's reference
// package, against which the fuzz test compares.
package reference
