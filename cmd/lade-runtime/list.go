package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

// entry is a container as state and list show it, with runc's names.
type entry struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   string    `json:"owner"`
}

func (c *container) entry() entry { return entry{c.State, c.Rootfs, c.Created, c.owner()} }

// shown is an entry in runc's form: the process of a stopped container is 0.
func (e entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Version     string               `json:"ociVersion"`
		ID          string               `json:"id"`
		Pid         int                  `json:"pid"`
		Status      specs.ContainerState `json:"status"`
		Bundle      string               `json:"bundle"`
		Rootfs      string               `json:"rootfs"`
		Created     time.Time            `json:"created"`
		Annotations map[string]string    `json:"annotations,omitempty"`
		Owner       string               `json:"owner"`
	}{e.Version, e.ID, e.Pid, e.Status, e.Bundle, e.Rootfs, e.Created, e.Annotations, e.Owner})
}

func state(_ context.Context, a *app, args []string) error {
	id, err := newFlags("state").one(args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	return a.print(c.entry())
}

func list(_ context.Context, a *app, args []string) error {
	f := newFlags("list")
	format := f.String("format", "table", "table or json")
	f.alias("f", "format")
	quiet := f.Bool("quiet", false, "ids only")
	f.alias("q", "quiet")
	if err := f.none(args); err != nil {
		return err
	}
	dirs, err := os.ReadDir(a.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	all := []entry{}
	for _, d := range dirs {
		if c, err := a.load(d.Name()); err == nil {
			all = append(all, c.entry())
		}
	}
	switch {
	case *quiet:
		for _, c := range all {
			fmt.Fprintln(a.stdout, c.ID)
		}
		return nil
	case *format == "json":
		return json.NewEncoder(a.stdout).Encode(all)
	case *format != "table":
		return errdefs.Invalidf("invalid format option")
	}
	w := tabwriter.NewWriter(a.stdout, 12, 1, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", c.ID, c.Pid, c.Status, c.Bundle, c.Created.Format(time.RFC3339Nano), c.Owner)
	}
	return w.Flush()
}

// ps shows the container's processes with ps(1), whose options follow the id.
func ps(ctx context.Context, a *app, args []string) error {
	f := newFlags("ps")
	format := f.String("format", "table", "table or json")
	f.alias("f", "format")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() < 1 {
		return f.wants("a minimum of 1 argument")
	}
	_, g, err := a.grouped(f.Arg(0))
	if err != nil {
		return err
	}
	pids, err := g.Pids()
	if err != nil {
		return err
	}
	switch *format {
	case "json":
		return json.NewEncoder(a.stdout).Encode(pids)
	case "table":
		return a.table(ctx, pids, f.Args()[1:])
	}
	return errdefs.Invalidf("invalid format option")
}

func (a *app) table(ctx context.Context, pids []int, options []string) error {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := exec.CommandContext(ctx, "ps", options...).Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return errdefs.Invalidf("ps: %w: %s", err, bytes.TrimSpace(e.Stderr))
	}
	if err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	column := -1
	for line := range bytes.Lines(out) {
		fields := strings.Fields(string(line))
		if column < 0 {
			if column = slices.Index(fields, "PID"); column < 0 {
				return errdefs.Invalidf("couldn't find PID field in ps output")
			}
		} else if pid, err := strconv.Atoi(fields[min(column, len(fields)-1)]); err != nil || !slices.Contains(pids, pid) {
			continue
		}
		if _, err := a.stdout.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// grouped loads a container and its control group.
func (a *app) grouped(id string) (*container, *cgroup.Group, error) {
	c, err := a.load(id)
	if err != nil {
		return nil, nil, err
	}
	g, err := c.group()
	return c, g, err
}

func pause(ctx context.Context, a *app, args []string) error {
	id, err := newFlags("pause").one(args)
	if err != nil {
		return err
	}
	c, g, err := a.grouped(id)
	if err != nil {
		return err
	}
	if c.Status != specs.StateRunning && c.Status != specs.StateCreated {
		return errdefs.Conflictf("container not running or created: %s", c.Status)
	}
	return g.Freeze(ctx)
}

func resume(ctx context.Context, a *app, args []string) error {
	id, err := newFlags("resume").one(args)
	if err != nil {
		return err
	}
	c, g, err := a.grouped(id)
	if err != nil {
		return err
	}
	if c.Status != statusPaused {
		return errdefs.Conflictf("container not paused")
	}
	return g.Thaw(ctx)
}
