// Package progress shows the stream of JSON messages by which an engine reports
// a pull, push, load or import: on a terminal one line a layer, redrawn in
// place; elsewhere one plain line a message, without the bars.
//
// Sources: Docker Engine API, /images/create (ProgressDetail, id, status,
// stream, errorDetail, aux); ECMA-48 for CUU, CUD and EL.
package progress
