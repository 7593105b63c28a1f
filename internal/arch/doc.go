// Package arch holds no code of the engine. Its tests are the map of the
// architecture: who may import whom, what each binary links, that every
// package says what it is for, and that the tests that documents name, and
// what comments name, are there. A change to a table here needs a record in docs/adr.
package arch
