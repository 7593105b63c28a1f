package classic

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	solvererrors "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// exitError is a step that has failed, in Docker's words.
type exitError struct {
	command string
	code    int
	err     error
}

// Error returns what Docker says.
func (e *exitError) Error() string {
	return fmt.Sprintf("The command '%s' returned a non-zero code: %d", e.command, e.code)
}

// Unwrap returns what BuildKit says.
func (e *exitError) Unwrap() error { return e.err }

// missing is BuildKit's word for a source of COPY that is not there.
var missing = regexp.MustCompile(`"/?([^"]*)": not found$`)

// explain puts a failure in Docker's words, as far as the first builder had some.
func explain(err error, s *steps) error {
	if exit, ok := errors.AsType[*gatewayapi.ExitError](err); ok {
		if solve, ok := errors.AsType[*solvererrors.SolveError](err); ok && solve.Op != nil {
			if run, ok := solve.Op.Op.(*pb.Op_Exec); ok {
				return &exitError{strings.Join(run.Exec.Meta.Args, " "), int(exit.ExitCode), err}
			}
		}
	}
	if m := missing.FindStringSubmatch(err.Error()); m != nil && s.next < len(s.plan) && s.plan[s.next].copies {
		verb, _, _ := strings.Cut(s.plan[s.next].text, " ")
		return fmt.Errorf("%s failed: file not found in build context or excluded by .dockerignore: stat %s: file does not exist", verb, m[1])
	}
	return err
}
