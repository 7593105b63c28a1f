package server

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// TestNames: an operation has one name in the table of routes, in its handler and
// in the engine, so that one grep shows its path.
func TestNames(t *testing.T) {
	operations := map[string]bool{}
	for _, r := range (&server{}).routes() {
		operations[r.operation] = true
		handler := runtime.FuncForPC(reflect.ValueOf(r.handle).Pointer()).Name()
		_, method, ok := strings.Cut(handler, "(*server).")
		if method = strings.TrimSuffix(method, "-fm"); ok && !strings.HasPrefix(method, "routes.") && !strings.EqualFold(method, r.operation) {
			t.Errorf("%s %s: the operation is called %s, its handler %s", r.method, r.path, r.operation, method)
		}
	}
	for part, why := range map[string]string{
		"ImagePull": "one of two things that ImageCreate does", "ImageImport": "the other one",
		"BuildDial":       "a connection for ImageBuild, Session and GRPC",
		"ContainersUsage": "a part of Metrics",
	} {
		if operations[part] {
			t.Errorf("%s (%s) is an operation too", part, why)
		}
		operations[part] = true
	}
	backend := reflect.TypeFor[Backend]()
	for i := range backend.NumMethod() {
		if name := backend.Method(i).Name; !operations[name] {
			t.Errorf("the engine is asked for %s, which is no operation of the API", name)
		}
	}
}
