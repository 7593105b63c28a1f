package conformance

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// servicePackages are Debian's servers and what a shell script needs.
var servicePackages = []string{
	"base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "hostname", "netbase", "procps", "sed",
	"nginx-light", "postgresql-15", "python3-psycopg2", "python3-redis", "redis-server",
}

// serviceWaste is what the servers do without.
var serviceWaste = []string{
	"usr/lib/*/libLLVM*", "usr/lib/*/libz3*", "usr/lib/postgresql/15/lib/bitcode", "usr/lib/*/perl", "usr/share/perl", "usr/share/i18n",
	"usr/share/doc", "usr/share/locale", "usr/share/man",
}

// serviceImages are the images made of the one tree, with what the images of
// those names on Docker Hub have for configuration.
var serviceImages = map[string][]string{
	"debian:12-slim": {`CMD ["bash"]`},
	"nginx:1.22":     {`EXPOSE 80`, `STOPSIGNAL SIGQUIT`, `CMD ["nginx", "-g", "daemon off;"]`},
	"postgres:15": {
		`EXPOSE 5432`, `STOPSIGNAL SIGINT`, `VOLUME /var/lib/postgresql/data`, `ENTRYPOINT ["postgres-entrypoint"]`, `CMD ["postgres"]`,
		`ENV PGDATA=/var/lib/postgresql/data`,
	},
	"python:3.11-slim": {`CMD ["python3"]`},
	"redis:7":          {`EXPOSE 6379`, `WORKDIR /data`, `VOLUME /data`, `CMD ["redis-server", "--protected-mode", "no"]`},
}

// services gives an engine images of Debian's PostgreSQL, Redis, nginx and
// Python.
func services(t *testing.T, e *harness.Engine) {
	t.Helper()
	e.ImportFile(servicesTree(t), "services")
	path := "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin"
	for image, changes := range serviceImages {
		args := []string{"commit", "--change", path}
		for _, c := range changes {
			args = append(args, "--change", c)
		}
		id := e.Run("create", "services", "true")
		e.Run(append(args, id, image)...)
		e.Run("rm", id)
	}
}

// servicesTree returns a tar file of a root file system with the packages in
// it. They are unpacked, and none of their scripts is run: nothing is started
// on this machine. The file is kept where harness keeps Debian's.
func servicesTree(t *testing.T) string {
	t.Helper()
	entrypoint, err := os.ReadFile("testdata/postgres-entrypoint")
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256([]byte(strings.Join(slices.Concat(servicePackages, serviceWaste, []string{string(entrypoint)}), "\n")))
	return harness.Kept(t, fmt.Sprintf("services-%x.tar", key[:8]), func(path string) error {
		return makeServices(t, path, entrypoint)
	})
}

// makeServices makes the tar file, and beside it what it is made of.
func makeServices(t *testing.T, path string, entrypoint []byte) (err error) {
	t.Helper()
	dir := filepath.Dir(path)
	root, debs, status := filepath.Join(dir, "root"), filepath.Join(dir, "debs"), filepath.Join(dir, "status")
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} { // Debian's packages count on these links
		err = errors.Join(err, os.MkdirAll(filepath.Join(root, "usr", d), 0o755), os.Symlink("usr/"+d, filepath.Join(root, d)))
	}
	err = errors.Join(err, os.MkdirAll(filepath.Join(debs, "partial"), 0o755), os.WriteFile(status, nil, 0o644))
	if err != nil {
		return err
	}
	// To apt nothing is installed: it fetches what the packages need, too.
	fetch := []string{
		"apt-get", "-qq", "install", "-y", "--download-only", "--no-install-recommends", "-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache::archives=" + debs, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
	}
	if err := quiet(t, append(fetch, servicePackages...)...); err != nil {
		return err
	}
	unpack := `for d in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$d" | tar -xf - -C "$2" --keep-directory-symlink || exit; done`
	if err := quiet(t, "sh", "-c", unpack, "sh", debs, root); err != nil {
		return err
	}
	for _, pattern := range serviceWaste {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	for name, content := range map[string]string{
		// What the packages' scripts would have made.
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/bin/false\npostgres:x:101:101::/var/lib/postgresql:/bin/bash\nredis:x:102:102::/data:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
		"etc/group":  "root:x:0:\nwww-data:x:33:\npostgres:x:101:\nredis:x:102:\nnogroup:x:65534:\n",
		// As the image of nginx has it.
		"etc/nginx/nginx.conf":              "user www-data;\nevents {}\nhttp {\n\tinclude mime.types;\n\taccess_log /dev/stdout;\n\terror_log /dev/stderr;\n\tinclude conf.d/*.conf;\n}\n",
		"etc/nginx/conf.d/default.conf":     "server {\n\tlisten 80;\n\tlocation / {\n\t\troot /usr/share/nginx/html;\n\t\tindex index.html;\n\t}\n}\n",
		"usr/local/bin/postgres-entrypoint": string(entrypoint),
		"usr/share/nginx/html/index.html":   "Welcome to nginx!\n",
		"docker-entrypoint-initdb.d/.keep":  "",
	} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o755)); err != nil {
			return err
		}
	}
	return quiet(t, "tar", "--numeric-owner", "-C", root, "-cf", path, ".")
}

// quiet runs a command; its output is part of the error.
func quiet(t *testing.T, args ...string) error {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), need.Program(t, args[0], "Debian's"), args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
