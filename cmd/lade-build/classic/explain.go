package classic

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
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

// What BuildKit says of a step that has failed, and of a source of COPY that is
// not there. Its own types of errors do not come through the front end.
var (
	exited  = regexp.MustCompile(`process ("(?:[^"\\]|\\.)*") did not complete successfully: exit code: (\d+)`)
	missing = regexp.MustCompile(`"/?([^"]*)": not found$`)
)

// explain puts a failure in Docker's words, as far as the first builder had some.
func explain(err error, s *steps) error {
	if m := exited.FindStringSubmatch(err.Error()); m != nil {
		command, bad := strconv.Unquote(m[1])
		code, badCode := strconv.Atoi(m[2])
		if bad == nil && badCode == nil {
			return &exitError{command, code, err}
		}
	}
	if m := missing.FindStringSubmatch(err.Error()); m != nil && s.next < len(s.plan) && s.plan[s.next].copies {
		verb, _, _ := strings.Cut(s.plan[s.next].text, " ")
		return fmt.Errorf("%s failed: file not found in build context or excluded by .dockerignore: stat %s: file does not exist", verb, m[1])
	}
	return err
}
