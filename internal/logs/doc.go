// Package logs keeps what containers print: a writer for the supervisor and a
// reader for the daemon, over files in Docker's json-file format.
package logs
