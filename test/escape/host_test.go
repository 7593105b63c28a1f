package escape

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lade/test/harness"
)

// TestHostFiles are attacks on the host's files by what an image, a volume or an
// archive consists of, and on its users.
func TestHostFiles(t *testing.T) {
	w := newWorld(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *world)
	}{{"users", hostUsers}, {"volumes", volumeLinks}, {"archives", archiveLinks}, {"builds", buildMounts}} {
		t.Run(part.name, func(t *testing.T) { part.run(t, w) })
	}
}

// hostUsers is CVE-2021-41091: root of a container leaves a program with a
// set-user-ID bit, and a user of the host runs it from where the engine has the
// files.
func hostUsers(t *testing.T, w *world) {
	w.Run("run", "--name", "leaver", "-v", w.payload+":/payload:ro", "-v", "left:/volume", harness.Image, "sh", "-c", "/payload set-uid /volume/left; /payload set-uid /left")
	defer w.Run("rm", "-f", "leaver")
	asNobody := func(path string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, "whoami")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "held: " + err.Error()
		}
		return string(out)
	}
	var left []string
	err := filepath.WalkDir(filepath.Join(w.Dir, "data"), func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "left" {
			if fi, err := os.Stat(path); err == nil && fi.Mode()&os.ModeSetuid != 0 {
				left = append(left, path)
			}
		}
		return err
	})
	if err != nil || len(left) < 2 { // how many files a storage driver makes of it, is its matter
		t.Fatalf("%v, %v", left, err)
	}
	for _, path := range left {
		withstood(t, path, asNobody(path))
	}
	open := filepath.Join(w.Dir, "open")
	b, err := os.ReadFile(left[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(open, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, os.ModeSetuid|0o755); err != nil {
		t.Fatal(err)
	}
	succeeded(t, "a directory that users pass", asNobody(open))
}

// build makes an image of a Dockerfile, whose context has a file.
func (w *world) build(t *testing.T, name, dockerfile string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{"Dockerfile": dockerfile, "file": "sent\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := w.Command("lade", "build", "--no-cache", "--progress", "plain", "-t", name, dir).CombinedOutput()
	return string(out), err
}

// secret makes a directory of the host with a file that says so.
func (w *world) secret(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("the secret of the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// intact fails the test when a directory of secret has changed.
func intact(t *testing.T, what, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "secret"))
	list, listErr := os.ReadDir(dir)
	if err != nil || string(b) != "the secret of the host\n" || listErr != nil || len(list) != 1 {
		t.Errorf("%s: the host has %v with %q; %v, %v", what, list, b, err, listErr)
	}
}

// volumeLinks is CVE-2022-23648: the paths of an image's volumes lead to the
// host, and what is there is copied into the new volumes.
func volumeLinks(t *testing.T, w *world) {
	dir, _ := w.secret(t)
	out, err := w.build(t, "links", "FROM "+harness.Image+"\nRUN ln -s "+dir+" /link && ln -s / /all\n"+
		"VOLUME /link\nVOLUME /all"+dir+"/deeper\nVOLUME /../../../../../../../.."+dir+"/dots\n")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := w.Run("run", "--rm", "links", "sh", "-c", "cat /link/* /all"+dir+"/* "+dir+"/*; echo done > /link/written; find "+dir); strings.Contains(got, "the secret") {
		t.Errorf("the image has the host's file: %s", got)
	}
	intact(t, "volumes", dir)
}

// archive makes a tar archive of entries, which are links or have their names as
// contents.
func archive(t *testing.T, entries ...tar.Header) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.Mode = 0o777
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

// archiveLinks is CVE-2025-11395 (CVE-2026-79705): the entries of an archive lead
// out of the directory into which it is unpacked: an image's, a volume's, what is
// copied into a container.
func archiveLinks(t *testing.T, w *world) {
	dir, secret := w.secret(t)
	up := strings.Repeat("../", 20)
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) tar.Header { return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink} }
	w.Run("create", "--name", "target", harness.Image, "true")
	defer w.Run("rm", "target")
	for what, entries := range map[string][]tar.Header{
		"a file through a link":                 {link("l", dir), {Name: "l/made"}},
		"a file through a relative link":        {link("l", up+dir[1:]), {Name: "l/made"}},
		"a file over a link":                    {link("l", secret), {Name: "l"}},
		"a directory over a link":               {link("l", dir), {Name: "l/", Typeflag: tar.TypeDir}},
		"a directory through a link":            {link("l", dir), {Name: "l/made/", Typeflag: tar.TypeDir}},
		"a link's mode":                         {link("l", secret), link("l", secret)},
		"a hard link to the host":               {hard("h", secret), {Name: "h"}},
		"a hard link through a link":            {link("l", dir), hard("h", "l/secret"), {Name: "h"}},
		"a hard link to a link":                 {link("l", secret), hard("h", "l"), {Name: "h"}},
		"dots":                                  {{Name: up + dir[1:] + "/made"}},
		"an absolute name":                      {{Name: dir + "/made"}},
		"the root itself":                       {link(".", dir), {Name: "made"}},
		"the root by its name":                  {link("/", dir), {Name: "made"}},
		"the root as a directory":               {link("./", dir), {Name: "./made"}},
		"what is deleted, through a link":       {link("l", dir), {Name: "l/.wh.secret"}},
		"what is deleted, all of it":            {link("l", dir), {Name: "l/.wh..wh..opq"}},
		"what is deleted, by dots":              {{Name: up + dir[1:] + "/.wh.secret"}},
		"a link that takes a directory's place": {{Name: "d/", Typeflag: tar.TypeDir}, link("d", dir), {Name: "d/made"}},
		"a link in the path of a link":          {link("a", "b/c"), link("b", up+filepath.Dir(dir)[1:]), link("b/c", "x"), {Name: "a/made"}},
	} {
		for _, command := range [][]string{{"import", "-", "imported"}, {"volume", "import", "imported", "-"}, {"cp", "-", "target:/"}} {
			cmd := w.Command("lade", command...)
			cmd.Stdin = archive(t, entries...)
			out, err := cmd.CombinedOutput()
			intact(t, what+", "+command[0]+" "+command[1]+": "+string(out), dir)
			if err == nil && command[0] == "import" { // the layer is unpacked when it is used
				_, _, _ = w.Try("rm", w.Run("create", "imported", "true"))
				intact(t, what+", a container of it", dir)
			}
			if err == nil && command[0] == "volume" {
				w.Run("volume", "rm", "imported")
			}
		}
	}
	open, naive := t.TempDir(), exec.CommandContext(t.Context(), "tar", "-xPf", "-", "-C", t.TempDir())
	naive.Stdin = archive(t, link("l", open), tar.Header{Name: "l/made"})
	if out, err := naive.CombinedOutput(); err != nil {
		t.Errorf("a naive tar: %v %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(open, "made")); err != nil {
		t.Errorf("the attack is not real: %v", err)
	}
	if got, _, _ := w.Try("cp", "target:/h", "-"); strings.Contains(got, "the secret") {
		t.Errorf("a hard link has the host's file: %s", got)
	}
}

// buildMounts is CVE-2024-23651, 23652, CVE-2024-1753 and 9407: the source or the
// mount point of what a build step mounts leads to the host, where it is read,
// made, or removed after the step.
func buildMounts(t *testing.T, w *world) {
	dir, _ := w.secret(t)
	up := strings.Repeat("../", 20)
	const show = "cat /m/secret; echo written > /m/written"
	for what, text := range map[string]string{
		"a source that is a link":           "RUN --mount=type=bind,rw,from=evil,source=/link,target=/m " + show,
		"a source that is a relative link":  "RUN --mount=type=bind,rw,from=evil,source=/relative,target=/m " + show,
		"a source below a link":             "RUN --mount=type=bind,rw,from=evil,source=/all" + dir + ",target=/m " + show,
		"a source with dots":                "RUN --mount=type=bind,rw,from=evil,source=/" + up + dir[1:] + ",target=/m " + show,
		"a link in a cache":                 "RUN --mount=type=cache,id=c,target=/c ln -sfn " + dir + " /c/l\nRUN --mount=type=cache,id=c,source=/l,target=/m " + show,
		"a cache's name":                    "RUN --mount=type=cache,id=" + up + dir[1:] + ",target=/m " + show,
		"a mount point below a link":        "COPY --from=evil /link /a\nRUN --mount=type=tmpfs,target=/a/made/deeper true",
		"a mount point that becomes a link": "RUN --mount=type=tmpfs,target=/a/secret mv /a /b; ln -s " + dir + " /a",
		"what is copied through a link":     "COPY --from=evil /link /a\nCOPY file /a/made\nADD file /a/made\nWORKDIR /a/work",
		"what is copied from a link":        "COPY --from=evil /link/secret /m/secret\nRUN " + show,
	} {
		out, _ := w.build(t, "built", "FROM "+harness.Image+" AS evil\nRUN ln -s "+dir+" /link && ln -s "+up+dir[1:]+" /relative && ln -s / /all\nFROM "+harness.Image+"\n"+text+"\n")
		if strings.Contains(out, "the secret of") {
			t.Errorf("%s: the step has the host's file:\n%s", what, out)
		}
		intact(t, what+":\n"+out, dir)
	}
}
