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

// TestWrong: what is not as the contract says is found.
func TestWrong(t *testing.T) {
	s := Load(t, Newest)
	for body, want := range map[string]string{
		`{"message":"x"}`:                "",
		`{"message":1}`:                  "v1.56 ContainerInspect.message: 1 in place of string",
		`{}`:                             "v1.56 ContainerInspect.message: required and missing",
		`{"message":"x","colour":"red"}`: "v1.56 ContainerInspect.colour: a field that no version has",
		`[]`:                             "v1.56 ContainerInspect: [] in place of object",
	} {
		if got := strings.Join(s.Check("GET", "/containers/x/json", 404, []byte(body)), "; "); got != want {
			t.Errorf("%s: %q, not %q", body, got, want)
		}
	}
	for body, want := range map[string]string{
		`[{"Id":"1","State":"running","NetworkSettings":{"Networks":{"a":{"MTU":1}}}}]`: "v1.56 ContainerList[].NetworkSettings.Networks{}.MTU: a field that no version has",
		`[{"State":"flying"}]`: `v1.56 ContainerList[].State: "flying" in place of one of [created running paused restarting exited removing dead]`,
		`[{"Ports":[{}]}]`:     "v1.56 ContainerList[].Ports[].PrivatePort: required and missing; v1.56 ContainerList[].Ports[].Type: required and missing",
	} {
		if got := strings.Join(s.Check("GET", "/containers/json", 200, []byte(body)), "; "); got != want {
			t.Errorf("%s: %q, not %q", body, got, want)
		}
	}
	if o, ok := s.Find("GET", "/images/a/b/json"); !ok || o.ID != "ImageInspect" {
		t.Errorf("%+v, %v", o, ok)
	}
	if o, ok := s.Find("GET", "/images/json"); !ok || o.ID != "ImageList" {
		t.Errorf("%+v, %v", o, ok)
	}
}
