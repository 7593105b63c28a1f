// Package decode reads JSON with the names and types that json.Marshal would
// write, much faster than encoding/json: a container's specification takes a
// sixth of the time, and the first one a quarter, as nothing is prepared for
// writing. At anything else, such as a field that a later version sends, it gives
// up, and encoding/json decodes the whole; what it does take is what encoding/json
// makes of it.
//
// Requests to the supervisor and bundles of lade-runtime are on the way of every
// start. A Shape learns what it has not met yet, and may be used by several
// goroutines.
//
// Source: RFC 8259.
package decode
