// Package target puts messages of a container's log in the words of those who
// collect logs: journald, syslog, GELF and Fluentd. It makes packets and opens no
// connection: the supervisor sends them, and may not link package net.
//
// An Encoder belongs to one goroutine.
//
// Sources: https://systemd.io/JOURNAL_NATIVE_PROTOCOL; RFC 3164, RFC 5424; the
// GELF specification (go2docs.graylog.org, "GELF Payload Specification"); the
// Fluentd forward protocol, version 1, and the MessagePack specification; and the
// pages of Docker's logging drivers, which say what the fields are called.
package target
