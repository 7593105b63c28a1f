package server

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

// TestReadOnly: over a read-only socket nothing is asked of the engine but
// what it knows.
func TestReadOnly(t *testing.T) {
	may := map[string]bool{}
	for _, r := range (&server{}).routes() {
		f := &fake{err: errdefs.NotFoundf("asked")}
		req := httptest.NewRequest(r.method, regexp.MustCompile(`\{\w+\}`).ReplaceAllString(r.path, "x"), strings.NewReader("{}"))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		New(f, Options{}).ServeHTTP(rec, req.WithContext(WithConnection(req.Context(), Connection{ReadOnly: true})))
		refused := rec.Code == http.StatusForbidden && strings.Contains(rec.Body.String(), r.operation+" is not allowed: this socket is read-only")
		if refused && f.called != "" || !refused && r.method != http.MethodGet && r.method != http.MethodHead {
			t.Errorf("%s %s: %d %s, called %q", r.method, r.path, rec.Code, rec.Body, f.called)
		}
		if !refused {
			may[r.operation] = true
		}
	}
	for _, op := range []string{"ContainerArchive", "ContainerArchiveStat", "ContainerExport", "ContainerAttachWebsocket", "ImageSave", "ImageSaveAll", "VolumeExport", "DistributionInspect", "ImageSearch", "ContainerAttach", "ExecStart"} {
		if may[op] {
			t.Errorf("%s is allowed", op)
		}
	}
	if len(may) < 15 || !may["ContainerList"] || !may["SystemPing"] {
		t.Errorf("allowed: %v", may)
	}
}
