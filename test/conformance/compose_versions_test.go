package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// compose5 is `docker compose`: the plugin of the newest client.
func compose5(t *testing.T, e *harness.Engine) *composer {
	t.Helper()
	dir := built(t)
	plugins := filepath.Join(e.Dir, "client", "cli-plugins")
	err := errors.Join(os.MkdirAll(plugins, 0o755), os.Symlink(filepath.Join(dir, "cli-plugins", "docker-compose"), filepath.Join(plugins, "docker-compose")))
	if err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return &composer{e: e, command: []string{filepath.Join(dir, "docker"), "compose", "--ansi", "never", "--progress", "plain"}, net: subnet()}
}

// compose1 is Debian's docker-compose.
func compose1(t *testing.T, e *harness.Engine) *composer {
	t.Helper()
	need.File(t, "/usr/bin/docker-compose", "Debian's docker-compose")
	// Debian's Python, whatever others there are.
	return &composer{e: e, command: []string{"/usr/bin/python3", "/usr/bin/docker-compose", "--ansi", "never"}, net: subnet(), one: true}
}

// subnet is the first three numbers of one for this process.
func subnet() string {
	n := os.Getpid()
	return fmt.Sprintf("10.%d.%d", 200+n%50, n/50%250)
}

// fetch reads what a server answers.
func fetch(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestCompose runs the files of testdata/compose.
func TestCompose(t *testing.T) {
	full(t)
	e := harness.Start(t, harness.Apart()...)
	services(t, e)
	var all results
	t.Run("v5", func(t *testing.T) {
		got := runComposeFiles(t, compose5(t, e), "shop", "blog", "queue", "monitor", "legacy", "extended")
		all.add("Compose v5", pinned(t, "github.com/docker/compose/v5"), got)
	})
	t.Run("lade compose", func(t *testing.T) {
		c := compose5(t, e)
		c.command = []string{need.Binary(t, "lade"), "compose"}
		runComposeFiles(t, c, "monitor")
	})
	t.Run("v1", func(t *testing.T) {
		got := runComposeFiles(t, compose1(t, e), "queue", "monitor", "legacy")
		all.add("Compose v1", debianVersion("docker-compose")(t), got)
	})
	all.publish(t, page)
}
