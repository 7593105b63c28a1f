package secret

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/store"
)

// world is a store over records of its own, which can be opened again.
type world struct {
	*Store
	dir     string
	records *store.Store
}

func open(t *testing.T, dir string) *world {
	t.Helper()
	records, err := store.Open(filepath.Join(dir, "records"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = records.Close() })
	return &world{Open(records, filepath.Join(dir, "secret.key"), slog.New(slog.DiscardHandler)), dir, records}
}

func (w *world) reopen(t *testing.T) *world {
	t.Helper()
	if err := w.records.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, w.dir)
}

// TestAtRest keeps a value over a restart; nothing on the disk has it in clear.
func TestAtRest(t *testing.T) {
	w := open(t, t.TempDir())
	const value = "correct horse battery staple"
	o, err := w.Create(t.Context(), Secret, "db", map[string]string{"a": "b"}, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		t.Errorf("the process that has the value can be dumped: %d, %v", n, err)
	}
	w = w.reopen(t)
	got, err := w.Value(Secret, "db")
	if err != nil || string(got) != value {
		t.Errorf("the value comes back as %q, %v", got, err)
	}
	if again, err := w.Find(Secret, o.ID[:5]); err != nil || again.Name != "db" || again.Labels["a"] != "b" || !again.Created.Equal(o.Created) {
		t.Errorf("found by a part of its id: %+v, %v", again, err)
	}
	err = filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(p)
		if bytes.Contains(raw, []byte(value)) {
			t.Errorf("%s has the value", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(w.keyFile); err != nil || st.Mode() != 0o600 {
		t.Errorf("the key: %v, %v", st, err)
	}
}

// TestKey asserts that a missing, foreign or readable key is said, and that none
// is made in its place.
func TestKey(t *testing.T) {
	w := open(t, t.TempDir())
	if _, err := w.Create(t.Context(), Secret, "db", nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(w.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"missing":  func() error { return os.Remove(w.keyFile) },
		"foreign":  func() error { return os.WriteFile(w.keyFile, bytes.Repeat([]byte{1}, keySize), 0o600) },
		"short":    func() error { return os.WriteFile(w.keyFile, key[:16], 0o600) },
		"readable": func() error { return errors.Join(os.WriteFile(w.keyFile, key, 0o600), os.Chmod(w.keyFile, 0o640)) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			s := Open(w.records, w.keyFile, slog.New(slog.DiscardHandler))
			if v, err := s.Value(Secret, "db"); errdefs.KindOf(err) != errdefs.DataLoss {
				t.Errorf("a value whose key is gone or another is opened: %q, %v", v, err)
			}
			if name == "missing" {
				if _, err := s.Create(t.Context(), Secret, "other", nil, []byte("x")); errdefs.KindOf(err) != errdefs.DataLoss {
					t.Errorf("sealed with another key: %v", err)
				}
			}
			if err := errors.Join(os.RemoveAll(w.keyFile), os.WriteFile(w.keyFile, key, 0o600)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestExchange puts one value in another's place.
func TestExchange(t *testing.T) {
	w := open(t, t.TempDir())
	a, err := w.Create(t.Context(), Secret, "a", nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.Create(t.Context(), Secret, "b", nil, []byte("y"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Sealed, b.Sealed) {
		t.Error("sealed alike")
	}
	forged := *a
	forged.Sealed = b.Sealed
	if v, err := w.open(&forged); errdefs.KindOf(err) != errdefs.DataLoss {
		t.Errorf("a value moved to another secret is opened: %q, %v", v, err)
	}
}

func TestNames(t *testing.T) {
	w := open(t, t.TempDir())
	for _, c := range []struct {
		kind    Kind
		name    string
		size    int
		kindErr errdefs.Kind
		say     string
	}{
		{Secret, "", 1, errdefs.Invalid, "name must be provided"},
		{Secret, "-x", 1, errdefs.Invalid, "invalid name"},
		{Secret, strings.Repeat("x", 65), 1, errdefs.Invalid, "invalid name"},
		{Secret, "x", 0, errdefs.Invalid, "secret data must be larger than 0 and less than 512000 bytes"},
		{Secret, "x", 512000, errdefs.Invalid, "secret data must be larger than 0"},
		{Config, "x", 1024000, errdefs.Invalid, "config data must be larger than 0 and less than 1024000 bytes"},
		{Secret, "x", 511999, 0, ""},
		{Config, "x", 1023999, 0, ""},
		{Config, "x", 1, errdefs.Conflict, "config x already exists"},
	} {
		_, err := w.Create(t.Context(), c.kind, c.name, nil, make([]byte, c.size))
		if c.say == "" && err == nil {
			continue
		}
		if err == nil || errdefs.KindOf(err) != c.kindErr || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s %q of %d bytes: %v", c.kind, c.name, c.size, err)
		}
	}
	if _, err := w.Find(Secret, ""); errdefs.KindOf(err) != errdefs.NotFound {
		t.Error(err)
	}
}

// TestUse removes what is used, and no longer.
func TestUse(t *testing.T) {
	w := open(t, t.TempDir())
	o, err := w.Create(t.Context(), Secret, "db", nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	refs := []Reference{{Kind: Secret, Name: "db"}}
	if err := w.Resolve(refs); err != nil || refs[0].ID != o.ID || refs[0].Target != "/run/secrets/db" {
		t.Fatal(refs, err)
	}
	if err := w.Hold("c", refs); err != nil {
		t.Fatal(err)
	}
	inUse := func(o *Object, users []string) error { return errdefs.Conflictf("%s %s", o.Name, users) }
	if _, err := w.Remove(t.Context(), Secret, "db", inUse); err == nil || err.Error() != "db [c]" {
		t.Error(err)
	}
	w.Release("c")
	if _, err := w.Remove(t.Context(), Config, "db", inUse); errdefs.KindOf(err) != errdefs.NotFound {
		t.Error(err)
	}
	if _, err := w.Remove(t.Context(), Secret, "db", inUse); err != nil {
		t.Error(err)
	}
	if err := w.Hold("c", refs); errdefs.KindOf(err) != errdefs.NotFound {
		t.Error(err)
	}
	if w = w.reopen(t); len(w.List(Secret)) != 0 {
		t.Error("it came back")
	}
}

func TestRelabel(t *testing.T) {
	w := open(t, t.TempDir())
	o, err := w.Create(t.Context(), Config, "c", nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Relabel(t.Context(), Config, "c", o.Version+1, nil); errdefs.KindOf(err) != errdefs.Invalid {
		t.Error(err)
	}
	if _, err := w.Relabel(t.Context(), Config, "c", o.Version, map[string]string{"k": "v"}); err != nil {
		t.Error(err)
	}
	w = w.reopen(t)
	if o, err := w.Find(Config, "c"); err != nil || o.Labels["k"] != "v" || o.Version != 2 {
		t.Error(o, err)
	}
	if v, err := w.Value(Config, "c"); err != nil || string(v) != "x" {
		t.Error(v, err)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]Reference{
		"db":                            {Name: "db", Mode: 0o444},
		"source=db,target=/a/../b":      {Name: "db", Target: "/b", Mode: 0o444},
		"db,uid=1,gid=2,mode=0400":      {Name: "db", UID: 1, GID: 2, Mode: 0o400},
		"id=db,dst=pw":                  {Name: "db", Target: "/run/secrets/pw", Mode: 0o444},
		"db,target=../../etc/x,mode=00": {Name: "db", Target: "/run/secrets/etc/x"},
	} {
		r, err := Parse(Secret, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if r.Target != "" {
			r.Target = r.target(r.Name)
		}
		want.Kind = Secret
		if r != want {
			t.Errorf("%s: %+v, want %+v", text, r, want)
		}
	}
	for _, bad := range []string{"", ",", "db,", "db,uid=x", "db,uid=-1", "db,mode=9", "db,mode=1777", "db,x=y", "uid=1", "db,other", "db,target=", "db,target=/"} {
		if r, err := Parse(Secret, bad); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q: %+v, %v", bad, r, err)
		}
	}
	two := map[string]string{SecretsAnnotation: "db,target=x;other,target=/run/secrets/x"}
	refs, err := Asked(two)
	if err != nil || len(refs) != 2 || refs[0].target("db") != refs[1].target("other") {
		t.Errorf("two secrets asked for: %+v, %v", refs, err)
	}
	c, err := Asked(map[string]string{ConfigsAnnotation: "c;d,target=etc/d"})
	if err != nil || len(c) != 2 || c[0].target("c") != "/c" || c[1].target("d") != "/etc/d" {
		t.Errorf("two configs asked for: %+v, %v", c, err)
	}
}
