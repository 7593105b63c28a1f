package swagger

import (
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDocker: what a real Docker has answered is as the contract says, so what
// lapses.go excuses is Docker's and not ours.
func TestDocker(t *testing.T) {
	specs := map[int]*Spec{}
	n := 0
	err := filepath.WalkDir("../../internal/server/testdata", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(p) != ".json" {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		var x struct {
			Method, URL string
			Status      int
			Body        json.RawMessage
		}
		if err := json.Unmarshal(b, &x); err != nil {
			return err
		}
		u, err := url.Parse(x.URL)
		if err != nil {
			return err
		}
		minor, path := 55, u.Path // the recorded engine's newest
		if m := regexp.MustCompile(`^/v1\.(\d+)(/.*)$`).FindStringSubmatch(path); m != nil {
			minor, _ = strconv.Atoi(m[1])
			path = m[2]
		}
		if minor > Newest || strings.Contains(path, "/events") || strings.HasSuffix(path, "/images/create") || strings.HasSuffix(path, "/images/load") {
			return nil
		}
		if specs[minor] == nil {
			specs[minor] = Load(t, minor)
		}
		var text string
		if len(x.Body) == 0 || json.Unmarshal(x.Body, &text) == nil {
			return nil
		}
		n++
		for _, wrong := range specs[minor].Check(x.Method, path, x.Status, x.Body) {
			t.Errorf("%s: %s", filepath.Base(p), wrong)
		}
		return nil
	})
	if err != nil || n < 80 {
		t.Fatalf("%d answers: %v", n, err)
	}
}
