package external

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/runtime"
	"lade/internal/runtime/bundle"
)

func TestExplain(t *testing.T) {
	for msg, want := range map[string]struct {
		said string
		code int
	}{
		`runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH`: {`exec: "nope": executable file not found in $PATH`, 127},
		"executable file `nope` not found in $PATH: No such file or directory":                                    {`exec: "nope": executable file not found in $PATH`, 127},
		"executable file `/no/such` not found in $PATH: No such file or directory":                                {`exec: "/no/such": stat /no/such: no such file or directory`, 127},
		"open executable: Operation not permitted":                                                                {"open executable: permission denied", 126},
		"exec `/etc/passwd`: Permission denied":                                                                   {"exec `/etc/passwd`: permission denied", 126},
		`runc create failed: unable to start container process: exec: "/etc": permission denied`:                  {`exec: "/etc": permission denied`, 126},
		`exec: "/x": exec format error`:                                                                           {`exec: "/x": exec format error`, 126},
		`error mounting "/a" to rootfs at "/b": mount /a:/b: not a directory`:                                     {`error mounting "/a" to rootfs at "/b": mount /a:/b: not a directory`, 127},
		`unable to start container process: error during container init: error mounting "x": permission denied`:   {`error mounting "x": permission denied`, 128},
		`runc create failed: namespace {"time" ""} does not exist`:                                                {`this runtime has no time namespaces: runc create failed: namespace {"time" ""} does not exist`, 128},
		`exec failed: exec: "nope": executable file not found in $PATH`:                                           {`exec: "nope": executable file not found in $PATH`, 127},
		"something else": {"something else", 128},
	} {
		if got := explain(msg); got.Error() != want.said || got.Code != want.code {
			t.Errorf("%q: %v, %d", msg, got, got.Code)
		}
	}
}

// TestRun calls runtimes that fail in several ways.
func TestRun(t *testing.T) {
	for name, tc := range map[string]struct {
		script, want string
		code         int
	}{
		"by its log": {`for last; do case $prev in --log) log=$last;; esac; prev=$last; done
			echo '{"level":"warning","msg":"no"}' >>"$log"; echo '{"level":"error","msg":"it is broken"}' >>"$log"; exit 1`, "it is broken", 128},
		"by its status":     {"exit 127", "fake kill: executable file not found in $PATH", 127},
		"without a word":    {"exit 3", "fake kill: exit status 3", 128},
		"log without sense": {`for last; do case $prev in --log) echo '{' >"$last";; esac; prev=$last; done; exit 126`, "fake kill: permission denied", 126},
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "fake")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tc.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			b, err := bundle.Create(t.TempDir(), "one", bundle.Runtime{Name: "fake", Kind: "oci", Path: program})
			if err != nil {
				t.Fatal(err)
			}
			err = New(&Host{}, b).Signal(t.Context(), 15)
			if se, ok := errors.AsType[*runtime.StartError](err); !ok || se.Code != tc.code || se.Error() != tc.want {
				t.Errorf("%v", err)
			}
			left, err := filepath.Glob(b.Path("log-*"))
			if err != nil || len(left) > 0 {
				t.Errorf("%v, %v", left, err)
			}
		})
	}
}

// TestArguments looks at what a runtime is told.
func TestArguments(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "fake")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nenv >"+dir+"/env\necho \"$@\" >"+dir+"/args\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LADE_EXECUTABLE", "secret")
	b, err := bundle.Create(dir, "one", bundle.Runtime{Name: "fake", Kind: "oci", Path: program, Args: []string{"--debug", "--x=y"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := New(&Host{}, b).Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	args, err := os.ReadFile(dir + "/args")
	if err != nil {
		t.Fatal(err)
	}
	got := string(args)
	if !strings.HasPrefix(got, "--debug --x=y --root "+b.State()+" --log ") || !strings.HasSuffix(got, " --log-format json delete --force one\n") {
		t.Errorf("%q", got)
	}
	if env, err := os.ReadFile(dir + "/env"); err != nil || strings.Contains(string(env), "LADE_") {
		t.Errorf("%s, %v", env, err)
	}
	if _, err := os.Stat(b.Dir); !os.IsNotExist(err) {
		t.Errorf("the bundle is there: %v", err)
	}
}

func TestMissingProgram(t *testing.T) {
	b, err := bundle.Create(t.TempDir(), "one", bundle.Runtime{Name: "gone", Kind: "oci", Path: "/no/such/runtime"})
	if err != nil {
		t.Fatal(err)
	}
	err = New(&Host{}, b).Signal(t.Context(), 15)
	if se, ok := errors.AsType[*runtime.StartError](err); !ok || se.Code != runtime.Failed || !strings.Contains(err.Error(), "gone") {
		t.Errorf("%v", err)
	}
}
