package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPost: it goes where the library goes, over TLS too, in the version agreed
// upon, and its errors are the library's.
func TestPost(t *testing.T) {
	var got string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		if r.Method != http.MethodPost {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = r.URL.Path + " " + r.Header.Get("X-Own") + " " + string(body)
		if strings.Contains(got, "bad") {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"message":"no such thing"}`)
			return
		}
		io.WriteString(w, `{"Warnings":["w"]}`)
	})
	for _, srv := range []*httptest.Server{httptest.NewServer(handler), httptest.NewTLSServer(handler)} {
		t.Cleanup(srv.Close)
		o := Options{ConfigDir: t.TempDir(), Hosts: []string{"tcp://" + srv.Listener.Addr().String()}, Getenv: func(string) string { return "" }, TLS: srv.TLS != nil}
		e, err := o.Resolve(&Config{})
		if err != nil {
			t.Fatal(err)
		}
		e.Headers = map[string]string{"X-Own": "yes"}
		api, err := e.Open("", "test", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ping(t, e, nil); err != nil {
			t.Fatal(err)
		}
		var out struct{ Warnings []string }
		body := map[string]int{"A": 1}
		err = e.Post(t.Context(), api, "/containers/x/update", body, &out)
		if err != nil || len(out.Warnings) != 1 || !strings.HasPrefix(got, "/v1.") || !strings.HasSuffix(got, `/containers/x/update yes {"A":1}`) {
			t.Errorf("%s, %v, %v", got, out, err)
		}
		if err := e.Post(t.Context(), api, "/bad", body, &out); err == nil || err.Error() != "Error response from daemon: no such thing" {
			t.Errorf("refused: %v", err)
		}
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	}
}
