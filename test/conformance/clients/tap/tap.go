// Package tap lets a program say what it has checked: Test Anything Protocol,
// version 13.
package tap

import (
	"fmt"
	"os"
	"strings"
)

// Plan are the checks of a program.
type Plan struct{ done, failed int }

// failure is what ends a check.
type failure string

// Check runs f, which ends with Fail and the like if something is wrong.
func (p *Plan) Check(name string, f func()) {
	p.done++
	if why := try(f); why != "" {
		p.failed++
		fmt.Printf("not ok %d - %s\n    %s\n", p.done, name, strings.ReplaceAll(why, "\n", "\n    "))
		return
	}
	fmt.Printf("ok %d - %s\n", p.done, name)
}

func try(f func()) (why string) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			why = string(v)
		default:
			panic(v)
		}
	}()
	f()
	return ""
}

// End prints how many checks there were, and ends the program.
func (p *Plan) End() {
	fmt.Printf("1..%d\n", p.done)
	if p.failed > 0 {
		os.Exit(1)
	}
	os.Exit(0)
}

// Fail ends a check.
func Fail(format string, a ...any) { panic(failure(fmt.Sprintf(format, a...))) }

// OK ends a check if there is an error.
func OK(err error) {
	if err != nil {
		Fail("%v", err)
	}
}

// Must returns what a call returns without an error.
func Must[T any](v T, err error) T {
	OK(err)
	return v
}

// Same ends a check if two values differ.
func Same[T comparable](got, want T) {
	if got != want {
		Fail("%#v, want %#v", got, want)
	}
}

// Has ends a check if a text lacks a part.
func Has(text, part string) {
	if !strings.Contains(text, part) {
		Fail("%q lacks %q", text, part)
	}
}

// Refused ends a check if there is no error, or one that does not say a text.
func Refused(err error, part string) {
	if err == nil {
		Fail("no error that says %q", part)
	}
	Has(err.Error(), part)
}
