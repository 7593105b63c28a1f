package registry_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apiregistry "github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
	"lade/internal/image/imagetest"
	"lade/internal/registry"
)

// tokens is a token service: "me" with the password "secret" may pull and push,
// everybody may pull from a/b.
type tokens struct {
	t     *testing.T
	files string // of authority: its "client" signs

	mu    sync.Mutex
	asked []string // scopes
}

// access is what a token allows. Source: distribution docs/spec/auth/jwt.md.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, named := r.BasicAuth()
	if named && (user != "me" || password != "secret") {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	var all []access
	for _, scope := range r.URL.Query()["scope"] {
		s.mu.Lock()
		s.asked = append(s.asked, scope)
		s.mu.Unlock()
		part := strings.Split(scope, ":")
		a := access{Type: part[0], Name: part[1], Actions: strings.Split(part[2], ",")}
		if !named {
			a.Actions = slices.DeleteFunc(a.Actions, func(action string) bool { return action != "pull" || a.Name != "a/b" })
		}
		all = append(all, a)
	}
	fmt.Fprintf(w, `{"token":%q}`, s.sign(all))
}

func (s *tokens) read(name string) []byte {
	raw, err := os.ReadFile(filepath.Join(s.files, name))
	if err != nil {
		s.t.Fatal(err)
	}
	b, _ := pem.Decode(raw)
	return b.Bytes
}

// sign makes a token (RFC 7519) with the certificate of its key.
func (s *tokens) sign(all []access) string {
	key, err := x509.ParseECPrivateKey(s.read("client.key"))
	if err != nil {
		s.t.Error(err)
		return ""
	}
	now := time.Now().Unix()
	text := ""
	for _, v := range []any{
		map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.read("client.cert"))}},
		map[string]any{"iss": "issuer", "sub": "", "aud": "service", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1", "access": all},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			s.t.Error(err)
		}
		text += base64.RawURLEncoding.EncodeToString(b) + "."
	}
	hash := sha256.Sum256([]byte(text[:len(text)-1]))
	r, v, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		s.t.Error(err)
		return ""
	}
	signature := append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	return text + base64.RawURLEncoding.EncodeToString(signature)
}

// TestTokens pushes to and pulls from the reference implementation with tokens:
// those for a push, for a mount, and for nobody in particular.
func TestTokens(t *testing.T) {
	service := &tokens{t: t, files: authority(t, "token.test")}
	web := httptest.NewServer(service)
	defer web.Close()
	host := serve(t, fmt.Sprintf("auth: {token: {realm: %q, service: service, issuer: issuer, rootcertbundle: %q}}", web.URL+"/token", filepath.Join(service.files, "ca.crt")))
	s := imagetest.New(t)
	c := client(t, s, func(c *registry.Config) { c.Stall = 10 * time.Second })
	me := &apiregistry.AuthConfig{Username: "me", Password: "secret"}
	first, second := ref(t, host+"/a/b:v1"), ref(t, host+"/c/d:v1")
	b := built(t, 2, 1000)
	imagetest.Add(t, s, b, first, second)
	if _, _, err := pushed(t, c, first, registry.PushOptions{}); errdefs.KindOf(err) != errdefs.Unauthorized {
		t.Errorf("a push by nobody: %v", err)
	}
	if _, _, err := pushed(t, c, first, registry.PushOptions{Auth: me}); err != nil {
		t.Fatal(err)
	}
	_, lines, err := pushed(t, c, second, registry.PushOptions{Auth: me})
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "Mounted from a/b") {
		t.Errorf("a mount: %v, %q", err, lines)
	}
	service.mu.Lock()
	for _, want := range []string{"repository:a/b:pull,push", "repository:c/d:pull,push", "repository:a/b:pull"} {
		if !slices.Contains(service.asked, want) {
			t.Errorf("nobody asked for %s, but for %q", want, service.asked)
		}
	}
	service.mu.Unlock()
	other := imagetest.New(t)
	c = client(t, other, func(c *registry.Config) { c.Stall = 10 * time.Second })
	if img, _, err := pull(t, c, first, registry.PullOptions{}); err != nil || img.ID != b.ID {
		t.Errorf("a pull by everybody: %v", err)
	}
	if _, _, err := pull(t, c, second, registry.PullOptions{}); err == nil {
		t.Error("a pull by nobody of what is not for all")
	}
	if _, _, err := pull(t, c, second, registry.PullOptions{Auth: me}); err != nil {
		t.Errorf("a pull: %v", err)
	}
	if _, err := c.Login(t.Context(), apiregistry.AuthConfig{Username: "me", Password: "wrong", ServerAddress: host}); errdefs.KindOf(err) != errdefs.Unauthorized {
		t.Errorf("a wrong password: %v", err)
	}
}
