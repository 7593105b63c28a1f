package main

import (
	"os"
	"testing"
)

// TestEnded reads lines of proc_pid_stat(5).
func TestEnded(t *testing.T) {
	const rest = " 0 0 0 0 0 0 0 0 20 0 "
	for line, ended := range map[string]bool{
		"7 (sleep) S 1 7 7 0 -1 4194560" + rest + "1 0 99 0":      false,
		"7 (a ) Z (b) R 1 7 7 0 -1 4194304" + rest + "3 0 99 0":   false,
		"7 (sleep) Z 1 7 7 0 -1 4228364" + rest + "1 0 99 0":      true,
		"7 (sleep) D 1 7 7 0 -1 4195596" + rest + "1 0 99 0":      true,  // the kernel takes it apart
		"7 (thread) Z 1 7 7 0 -1 4228364" + rest + "2 0 99 0":     false, // the others go on
		"7 (thread) R 1 7 7 0 -1 4195596" + rest + "3 0 99 0 0 0": false,
	} {
		s, err := parseStat(line)
		if err != nil || s.ended() != ended || s.started != 99 {
			t.Errorf("%s: %+v %v", line, s, err)
		}
	}
	if _, err := parseStat("7 (sleep) S 1"); err == nil {
		t.Error("a short line")
	}
	if s, err := statOf(os.Getpid()); err != nil || s.ended() || s.threads < 2 || s.started == 0 {
		t.Errorf("%+v %v", s, err)
	}
}
