// Package need lets a test say what it needs from the machine. A need that is
// not met skips the test for a developer and fails it under
// LADE_TEST_REQUIRE=1, which `make test` and CI set: nothing is skipped in
// silence there.
package need
