package service

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

// TestMain is also the program that TestStart starts: it says what it is told,
// or that it is ready, and what it has after that.
func TestMain(m *testing.M) {
	log, child := os.LookupEnv("LADE_TEST_LOG")
	if !child {
		os.Exit(m.Run())
	}
	os.Stdout.WriteString(os.Getenv("LADE_TEST_SAYS"))
	if os.Getenv("LADE_TEST_SAYS") != "" {
		os.Exit(1)
	}
	if err := Detach(log); err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	dir, _ := os.Getwd()
	input, _ := io.ReadAll(os.Stdin)
	os.Stdout.WriteString("output ")
	os.Stderr.WriteString("error " + dir + " " + string(input))
}

func child(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// TestStart: who starts a program is told that it is ready, or what it said
// instead; after that both have nothing in common but what was agreed on.
func TestStart(t *testing.T) {
	// log returns what came by a pipe that ends when the program does.
	log := func(t *testing.T, start func(f *os.File)) string {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		start(w)
		w.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	t.Run("with its own error", func(t *testing.T) {
		got := log(t, func(f *os.File) {
			cmd := child(t, "LADE_TEST_LOG=")
			cmd.Stderr = f
			if err := Start(t.Context(), cmd); err != nil {
				t.Fatal(err)
			}
		})
		if got != "error / " {
			t.Errorf("got %q", got)
		}
	})
	t.Run("with a log", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, []byte("before "), 0o600); err != nil {
			t.Fatal(err)
		}
		log(t, func(f *os.File) {
			cmd := child(t, "LADE_TEST_LOG="+file)
			cmd.ExtraFiles = []*os.File{f}
			if err := Start(t.Context(), cmd); err != nil {
				t.Fatal(err)
			}
		})
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, []byte("before output error / ")) {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("failure", func(t *testing.T) {
		err := Start(t.Context(), child(t, "LADE_TEST_LOG=", "LADE_TEST_SAYS=no luck\n"))
		if errdefs.KindOf(err) != errdefs.Unavailable || !strings.HasSuffix(err.Error(), ": no luck") {
			t.Error(err)
		}
	})
	t.Run("nobody waits", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		cmd := exec.Command("cat")
		r, w, err := os.Pipe() // cat waits for its end
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		cmd.Stdin = r
		if err := Start(ctx, cmd); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		r.Close()
	})
}
