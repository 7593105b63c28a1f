package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestClient shows what lade's client does beside Docker's commands.
func TestClient(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	e.Run("run", "-d", "--name", "web", "--init", "lade/hello", "sh", "-c", "echo from-web; exec sleep 1000")
	// Its line is older than the job's.
	need.Eventually(t, "the container says something", func() bool { return e.Run("logs", "web") != "" })
	e.Run("run", "-d", "--name", "idle", "--init", "lade/hello", "sleep", "1000")
	e.Run("run", "--name", "job", "lade/hello", "sh", "-c", "echo from-job; echo oops >&2")
	e.Run("volume", "create", "data")
	t.Run("completion", func(t *testing.T) { testCompletion(t, e) })
	t.Run("logs", func(t *testing.T) { testManyLogs(t, e) })
	t.Run("plugin", func(t *testing.T) { testPlugin(t, e) })
	e.Run("rm", "-f", "web", "job", "idle")
	e.Run("volume", "rm", "data")
}

// shells run the client's script and complete the line in their own way.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	return map[string][]string{
		"bash": {need.Program(t, "bash", "Debian's bash"), "-c", `
			_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}; }
			compopt() { :; }
			source <(lade completion bash)
			read -ra COMP_WORDS <<<"$LINE"
			[[ $LINE == *' ' ]] && COMP_WORDS+=("")
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9
			__start_lade
			printf '%s\n' "${COMPREPLY[@]}"`},
		"zsh": {need.Program(t, "zsh", "Debian's zsh"), "-fc", `
			compdef() { :; }
			_describe() { print -rl -- $completions }
			_arguments() { :; }
			source <(lade completion zsh)
			words=(${(z)LINE})
			[[ $LINE == *' ' ]] && words+=("")
			CURRENT=$#words
			_lade`},
		"fish": {need.Program(t, "fish", "Debian's fish"), "-c", `lade completion fish | source; complete -C "$LINE"`},
	}
}

func testCompletion(t *testing.T, e *harness.Engine) {
	for shell, script := range shells(t) {
		for line, want := range map[string]string{
			"lade stop w":             "web",
			"lade start ":             "job",
			"lade rm w":               "web",
			"lade container logs j":   "job",
			"lade volume rm ":         "data",
			"lade run --rm lade/h":    "lade/hello", // the tag is cut off below
			"lade run --restart on-u": "on-unhealthy",
			"lade why-d":              "why-died",
			"lade volume sn":          "snapshot",
		} {
			cmd := exec.CommandContext(t.Context(), script[0], script[1:]...)
			cmd.Env = append(os.Environ(), "LINE="+line, "LADE_HOST=unix://"+e.Socket, "PATH="+e.Bin+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
			var errOut bytes.Buffer
			cmd.Stderr = &errOut
			out, err := cmd.Output()
			var words []string
			for l := range strings.Lines(string(out)) {
				// Shells that show descriptions have them after a tab, a colon or spaces.
				word := strings.FieldsFunc(l, func(r rune) bool { return strings.ContainsRune("\t:\\ \n(", r) })
				if len(word) > 0 {
					words = append(words, word[0])
				}
			}
			if !slices.Equal(words, []string{want}) {
				t.Errorf("%s: %q completes to %q, want %q (%v %s)", shell, line, words, want, err, errOut.String())
			}
		}
	}
}

// testManyLogs prints two logs as one: by time, and while they are written.
func testManyLogs(t *testing.T, e *harness.Engine) {
	if out, errOut, code := e.Try("logs", "job", "web"); code != 0 || strings.TrimSpace(out) != "web | from-web\njob | from-job" || strings.TrimSpace(errOut) != "job | oops" {
		t.Errorf("two logs by time, exit code and output: %d %q %q", code, out, errOut)
	}
	if out := e.Run("logs", "--grep", "job$", "web", "job"); out != "job | from-job" {
		t.Errorf("grep: %q", out)
	}
	if _, errOut, code := e.Try("logs", "web", "nope"); code != 1 || !strings.Contains(errOut, "No such container: nope") {
		t.Errorf("logs of one that is not there, exit code and words: %d %q", code, errOut)
	}
	cmd := e.Command(filepath.Join(e.Bin, "lade"), "logs", "-f", "-n", "1", "idle", "web")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(need.Patience(30*time.Second), func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	lines := bufio.NewScanner(out)
	next := func() string {
		lines.Scan()
		return lines.Text()
	}
	if first := next(); first != "web  | from-web" {
		t.Errorf("following begins with %q", first)
	}
	e.Run("exec", "web", "sh", "-c", "echo later >/proc/1/fd/1")
	if second := next(); second != "web  | later" {
		t.Errorf("and goes on with %q", second)
	}
	e.Run("kill", "web", "idle")
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("following ended with %v", err)
	}
}

// testPlugin runs Docker's plugins as commands.
func testPlugin(t *testing.T, e *harness.Engine) {
	config := t.TempDir()
	lade := func(args ...string) (out string, code int) {
		cmd := e.Command(filepath.Join(e.Bin, "lade"), args...)
		cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+config, "DOCKER_CONTEXT=")
		b, err := cmd.CombinedOutput()
		return string(b), exitCode(err)
	}
	if out, code := lade("compose", "up"); code != 1 || !strings.Contains(out, "runs the plugin docker-compose, which is in none of\n  "+config+"/cli-plugins\n") {
		if _, err := exec.LookPath("/usr/libexec/docker/cli-plugins/docker-compose"); err != nil {
			t.Errorf("without the plugin: %d %s", code, out)
		}
	}
	if err := os.Mkdir(filepath.Join(config, "cli-plugins"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$DOCKER_HOST $*\"\nexit 7\n"
	if err := os.WriteFile(filepath.Join(config, "cli-plugins", "docker-compose"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, code := lade("compose", "-p", "x", "up", "-d"); code != 7 || out != "unix://"+e.Socket+" compose -p x up -d\n" {
		t.Errorf("with the plugin: %d %q", code, out)
	}
}
