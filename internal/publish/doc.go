// Package publish has the words for what lade knows of a published port beyond
// Docker: the policy, and who may connect.
//
//	-p 127.0.0.1:8080:80/tcp,policy=gate,from=10.0.0.0/8,from=fd00::/8
//
// An unmodified client says the same by annotations, whose names end as -p
// writes a port, or less of it; the one that says most counts:
//
//	lade.publish.127.0.0.1:8080:80/tcp   this one
//	lade.publish.8080:80/tcp             on whichever address
//	lade.publish.80/tcp                  the container's port, on whichever ports
//	lade.publish                         all that the container publishes
//
// Without a protocol it is tcp. The value is what follows the first comma of -p.
// What holds is shown by annotations of the same form, lade.published.….
//
// Concurrency: all functions are pure.
//
// Sources: docs/ports.md; docker run's -p, whose forms are extended.
package publish
