package container

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"lade/internal/cli/app"
)

// buildWhyDied is a command of lade's own: what is known of a container's end,
// in one place. It asks for nothing that Docker's engine does not tell, too.
func buildWhyDied(e *app.Env, f *pflag.FlagSet) app.Run {
	lines := f.IntP("tail", "n", 10, "Number of lines to show from the end of the logs")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.ContainerInspect(ctx, args[0], moby.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		c := &res.Container
		var b strings.Builder
		obituary(&b, c, time.Now())
		if *lines > 0 && c.State.StartedAt != "" {
			tail, err := lastLines(ctx, api, c, *lines)
			switch {
			case err != nil:
				fmt.Fprintf(&b, "Log:       cannot be read: %s\n", err)
			case tail == "":
				b.WriteString("Log:       empty\n")
			default:
				b.WriteString("Last lines of the log:\n" + tail)
			}
		}
		_, err = io.WriteString(e.Out, b.String())
		return err
	}
}

// obituary writes what an inspection tells of a container's end.
func obituary(w io.Writer, c *container.InspectResponse, now time.Time) {
	s := c.State
	row := func(name, form string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name+":", fmt.Sprintf(form, args...))
	}
	began, err1 := time.Parse(time.RFC3339Nano, s.StartedAt)
	ended, err2 := time.Parse(time.RFC3339Nano, s.FinishedAt)
	row("Container", "%s (%s), image %s", strings.TrimPrefix(c.Name, "/"), c.ID[:min(12, len(c.ID))], c.Config.Image)
	switch {
	case s.Running && !s.Restarting:
		row("State", "%s, it has not died", s.Status)
	case err1 != nil || began.IsZero():
		row("State", "%s, it was never started", s.Status)
	default:
		row("State", "%s", s.Status)
	}
	if err1 == nil && err2 == nil && !ended.IsZero() && (!s.Running || s.Restarting || c.RestartCount > 0) {
		row("Ended", "%s, %s ago", ended.Format(time.RFC3339), units.HumanDuration(now.Sub(ended)))
		if ended.After(began) {
			row("Ran for", "%s", ended.Sub(began).Round(time.Millisecond))
		}
		row("Exit code", "%s", exitWords(s.ExitCode))
	}
	if s.OOMKilled {
		row("Memory", "the kernel killed a process for memory; %s", memoryWords(c.HostConfig))
	}
	if s.Error != "" {
		row("Error", "%s", s.Error)
	}
	if p := c.HostConfig.RestartPolicy; c.RestartCount > 0 || !p.IsNone() {
		row("Restarts", "%d, policy %s", c.RestartCount, policyWords(p))
	}
	if h := s.Health; h != nil {
		row("Health", "%s, %d failed in a row", h.Status, h.FailingStreak)
		for _, r := range h.Log {
			fmt.Fprintf(w, "  %s  exit code %d  %s\n", r.Start.Format(time.RFC3339), r.ExitCode, strings.TrimSpace(r.Output))
		}
	}
}

// exitWords says what an exit code means.
func exitWords(code int) string {
	switch {
	case code == 125, code == 126, code == 127:
		return fmt.Sprintf("%d (%s)", code, map[int]string{
			125: "the container could not be run", 126: "the command cannot be executed", 127: "the command was not found",
		}[code])
	case code == 255:
		return "255 (not known, or the command's own)"
	case code > 128:
		if name := unix.SignalName(unix.Signal(code - 128)); name != "" {
			return fmt.Sprintf("%d (128 + %d: %s)", code, code-128, name)
		}
	}
	return fmt.Sprint(code)
}

func memoryWords(h *container.HostConfig) string {
	if h.Memory == 0 {
		return "it has no limit of its own"
	}
	words := "limit " + units.BytesSize(float64(h.Memory))
	switch {
	case h.MemorySwap < 0:
		words += ", swap without limit"
	case h.MemorySwap > 0:
		words += ", with swap " + units.BytesSize(float64(h.MemorySwap))
	}
	return words
}

func policyWords(p container.RestartPolicy) string {
	if p.IsNone() {
		return "no"
	}
	if p.MaximumRetryCount > 0 {
		return fmt.Sprintf("%s:%d", p.Name, p.MaximumRetryCount)
	}
	return string(p.Name)
}

// lastLines returns the end of a container's log, each line behind two spaces.
func lastLines(ctx context.Context, api *moby.Client, c *container.InspectResponse, n int) (string, error) {
	body, err := api.ContainerLogs(ctx, c.ID, moby.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: fmt.Sprint(n), Timestamps: true})
	if err != nil {
		return "", err
	}
	defer body.Close()
	var b strings.Builder
	if c.Config.Tty {
		_, err = io.Copy(&b, body)
	} else {
		_, err = stdcopy.StdCopy(&b, &b, body)
	}
	var out strings.Builder
	for line := range strings.Lines(b.String()) {
		out.WriteString("  " + strings.TrimRight(line, "\r\n") + "\n")
	}
	return out.String(), err
}
