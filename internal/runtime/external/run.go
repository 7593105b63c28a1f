package external

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/runtime"
	"lade/internal/runtime/bundle"
)

// run calls a verb. Errors: *runtime.StartError in the runtime's words;
// NotFound if there is no such program.
func (c *Container) run(ctx context.Context, streams bundle.Streams, input *os.File, verb ...string) error {
	log, err := os.CreateTemp(c.b.Dir, "log-")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	args := slices.Concat(c.b.Runtime.Args, []string{"--root", c.b.State(), "--log", log.Name(), "--log-format", "json"}, c.options, verb)
	err = c.b.Run(ctx, streams, input, c.b.Runtime.Path, args...)
	if errors.Is(err, errdefs.NotFound) {
		return &runtime.StartError{Code: runtime.Failed, Op: "runtime " + c.b.Runtime.Name + ": " + err.Error()}
	}
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	raw, readErr := os.ReadFile(log.Name())
	if readErr != nil {
		return readErr
	}
	if said := lastError(raw); said != "" {
		return explain(said)
	}
	return exited(c.b.Runtime.Name+" "+verb[0], failed.ExitCode())
}

// lastError finds the last message of a log that tells of an error: lines of
// JSON, as all runtimes write them since runc did.
func lastError(log []byte) (msg string) {
	for line := range bytes.Lines(log) {
		var l struct{ Level, Msg string }
		if json.Unmarshal(line, &l) == nil && (l.Level == "error" || l.Level == "fatal") && l.Msg != "" {
			msg = l.Msg
		}
	}
	return msg
}

// exited is for a runtime that tells no reason but its exit status, which may
// be the shell's for a command that cannot be executed.
func exited(what string, code int) *runtime.StartError {
	switch code {
	case runtime.NotFound:
		return &runtime.StartError{Code: code, Op: what + ": executable file not found in $PATH"}
	case runtime.NotExecutable:
		return &runtime.StartError{Code: code, Op: what + ": permission denied"}
	}
	return &runtime.StartError{Code: runtime.Failed, Op: what + ": exit status " + strconv.Itoa(code)}
}

// goWords puts what a runtime in C says into the words of those in Go, by which
// Docker's client picks its exit status (126 or 127), and it minds the case.
func goWords(msg string) string {
	before, rest, ok := strings.Cut(msg, "executable file `")
	if name, after, there := strings.Cut(rest, "` not found in $PATH"); ok && there {
		why := "executable file not found in $PATH" + strings.TrimPrefix(after, ": No such file or directory")
		if strings.Contains(name, "/") { // it was not looked for
			why = "stat " + name + ": no such file or directory"
		}
		msg = before + `exec: "` + name + `": ` + why
	}
	// crun says so of a directory.
	msg = strings.ReplaceAll(msg, "open executable: Operation not permitted", "open executable: permission denied")
	for _, words := range []string{"No such file or directory", "Permission denied", "Exec format error", "Is a directory", "Not a directory"} {
		msg = strings.ReplaceAll(msg, ": "+words, ": "+strings.ToLower(words[:1])+words[1:])
	}
	return msg
}

// explain finds out what a failure is to blame on: runtimes tell it in words
// only, and by those dockerd decides, too.
func explain(msg string) *runtime.StartError {
	for _, prefix := range []string{"exec failed: ", "unable to start container process: ", "error during container init: "} {
		if _, after, ok := strings.Cut(msg, prefix); ok {
			msg = after
		}
	}
	msg = goWords(strings.TrimSpace(msg))
	e := &runtime.StartError{Code: runtime.Failed, Op: msg}
	low := strings.ToLower(msg)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(low, w) })
	}
	switch {
	case has(`namespace {"time"`): // runc before 1.2
		e.Op = "this runtime has no time namespaces: " + msg
	case has("error mounting") && has("not a directory"):
		e.Code = runtime.NotFound
	case has("error mounting"):
	case has("executable file not found", "not found in $path", "no such file or directory", "error finding executable"):
		e.Code = runtime.NotFound
	case has("permission denied", "is a directory", "exec format error", "not executable"):
		e.Code = runtime.NotExecutable
	}
	return e
}
