// Package need lets a test say what it needs: of the machine, of time, of what
// other processes do.
//
// A need of the machine that is not met skips the test for a developer and fails
// it under LADE_TEST_REQUIRE=1, which `make test` and CI set: nothing is skipped
// in silence there. Of time no test needs an exact amount: Patience and Eventually
// wait long enough on a machine that is busy, and no longer than it takes. Buffer,
// Serve and ServeHTTP are the other side of a process under test.
package need
