// Package conformance runs judges that we did not write on what lade builds:
// `make conformance`. They are the validation programs of OCI runtime-tools,
// and Debian's containerd, Podman and Docker with lade-runtime as their runtime.
//
// The programs are built from the module in tools/, whose dependencies are no
// part of the product. testdata/runtime-tools.txt says what is expected of each
// of them, and why some cannot pass; docs/conformance.md explains it. What is
// expected to pass and does not, fails.
//
// And clients of Docker's API on laded: two docker CLIs with the scripts of
// test/e2e, two Composes with the files of testdata/compose, and a program with
// each of several libraries. These, and what pins the libraries, are in the
// module in clients/. How many checks of each passed is written into
// docs/compatibility.md.
//
// And the tests of Docker's engine and client themselves (suites_*_test.go), from
// Go's module proxy.
package conformance
