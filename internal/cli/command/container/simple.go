package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

func marshal(v any) ([]byte, error) { return json.Marshal(v) }

// each applies f to every named container at once and prints the names of those
// that went well, in the order given.
func each(ctx context.Context, e *app.Env, names []string, f func(context.Context, *moby.Client, string) error) error {
	api, err := e.API()
	if err != nil {
		return err
	}
	var errs []error
	app.Each(ctx, names, func(ctx context.Context, id string) error { return f(ctx, api, id) }, func(name string, err error) {
		if err == nil {
			err = e.Println(name)
		}
		errs = append(errs, err)
	})
	return errors.Join(errs...)
}

func buildStop(restart bool) func(*app.Env, *pflag.FlagSet) app.Run {
	return func(e *app.Env, f *pflag.FlagSet) app.Run {
		sig := f.StringP("signal", "s", "", "Signal to send to the container")
		timeout := f.IntP("timeout", "t", 0, "Seconds to wait before killing the container")
		f.IntVar(timeout, "time", 0, "Seconds to wait before killing the container")
		deprecate(f, "time", "use --timeout instead")
		return func(ctx context.Context, args []string) error {
			if f.Changed("time") && f.Changed("timeout") {
				return errors.New("conflicting options: cannot specify both --timeout and --time")
			}
			if !f.Changed("time") && !f.Changed("timeout") {
				timeout = nil
			}
			return each(ctx, e, args, func(ctx context.Context, api *moby.Client, id string) (err error) {
				if restart {
					_, err = api.ContainerRestart(ctx, id, moby.ContainerRestartOptions{Signal: *sig, Timeout: timeout})
				} else {
					_, err = api.ContainerStop(ctx, id, moby.ContainerStopOptions{Signal: *sig, Timeout: timeout})
				}
				return err
			})
		}
	}
}

// deprecate hides a flag from help and tells those who use it.
func deprecate(f *pflag.FlagSet, name, why string) {
	l := f.Lookup(name)
	l.Deprecated, l.Hidden = why, true
}

func buildKill(e *app.Env, f *pflag.FlagSet) app.Run {
	sig := f.StringP("signal", "s", "", "Signal to send to the container")
	return func(ctx context.Context, args []string) error {
		return each(ctx, e, args, func(ctx context.Context, api *moby.Client, id string) error {
			_, err := api.ContainerKill(ctx, id, moby.ContainerKillOptions{Signal: *sig})
			return err
		})
	}
}

func buildPause(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(ctx context.Context, args []string) error {
		return each(ctx, e, args, func(ctx context.Context, api *moby.Client, id string) error {
			_, err := api.ContainerPause(ctx, id, moby.ContainerPauseOptions{})
			return err
		})
	}
}

func buildUnpause(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(ctx context.Context, args []string) error {
		return each(ctx, e, args, func(ctx context.Context, api *moby.Client, id string) error {
			_, err := api.ContainerUnpause(ctx, id, moby.ContainerUnpauseOptions{})
			return err
		})
	}
}

func buildRemove(e *app.Env, f *pflag.FlagSet) app.Run {
	var o moby.ContainerRemoveOptions
	f.BoolVarP(&o.RemoveVolumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	f.BoolVarP(&o.RemoveLinks, "link", "l", false, "Remove the specified link")
	f.BoolVarP(&o.Force, "force", "f", false, "Force the removal of a running container (uses SIGKILL)")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		var errs []error
		app.Each(ctx, args, func(ctx context.Context, id string) error {
			if id = strings.Trim(id, "/"); id == "" {
				return errors.New("container name cannot be empty")
			}
			_, err := api.ContainerRemove(ctx, id, o)
			return err
		}, func(name string, err error) {
			switch {
			case err == nil:
				errs = append(errs, e.Println(name))
			case o.Force && errdefs.IsNotFound(err):
				e.Complain(err)
			default:
				errs = append(errs, err)
			}
		})
		return errors.Join(errs...)
	}
}

func buildRename(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(ctx context.Context, args []string) error {
		from, to := strings.TrimSpace(args[0]), strings.TrimSpace(args[1])
		if from == "" || to == "" {
			return errors.New("Error: Neither old nor new names may be empty")
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		if _, err := api.ContainerRename(ctx, from, moby.ContainerRenameOptions{NewName: to}); err != nil {
			e.Complain(err)
			return fmt.Errorf("Error: failed to rename container named %s", from)
		}
		return nil
	}
}

func buildWait(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		var errs []error
		for _, id := range args {
			res := api.ContainerWait(ctx, id, moby.ContainerWaitOptions{})
			select {
			case r := <-res.Result:
				errs = append(errs, e.Println(r.StatusCode))
			case err := <-res.Error:
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}

func buildTop(e *app.Env, f *pflag.FlagSet) app.Run {
	f.SetInterspersed(false)
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.ContainerTop(ctx, args[0], moby.ContainerTopOptions{Arguments: args[1:]})
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(e.Out, 20, 1, 3, ' ', 0)
		for _, line := range append([][]string{res.Titles}, res.Processes...) {
			if _, err := fmt.Fprintln(w, strings.Join(line, "\t")); err != nil {
				return err
			}
		}
		return w.Flush()
	}
}

func buildDiff(e *app.Env, f *pflag.FlagSet) app.Run {
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.ContainerDiff(ctx, args[0], moby.ContainerDiffOptions{})
		if err != nil {
			return err
		}
		rows := make([]format.Row, 0, len(res.Changes))
		for _, c := range res.Changes {
			rows = append(rows, format.Row{"Type": c.Kind.String(), "Path": c.Path})
		}
		return format.Write(e.Out, "{{.Type}} {{.Path}}", nil, rows)
	}
}

func buildPort(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.ContainerInspect(ctx, args[0], moby.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		var bound network.PortMap
		if n := res.Container.NetworkSettings; n != nil {
			bound = n.Ports
		}
		var notes map[string]string
		if h := res.Container.HostConfig; h != nil {
			notes = h.Annotations
		}
		if len(args) == 1 {
			var out []string
			for p, list := range bound {
				for _, b := range list {
					out = append(out, fmt.Sprintf("%s -> %s%s", p, hostPort(b), how(notes, p, b)))
				}
			}
			slices.SortFunc(out, format.Natural)
			for _, l := range out {
				if err := e.Println(l); err != nil {
					return err
				}
			}
			return nil
		}
		port, proto, _ := strings.Cut(args[1], "/")
		if proto == "" {
			proto = "tcp"
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("Error: invalid port (%s): %w", port, err)
		}
		p, err := network.ParsePort(port + "/" + proto)
		if err != nil {
			return fmt.Errorf("Error: invalid port (%s): %w", port, err)
		}
		list, ok := bound[p]
		if !ok || len(list) == 0 {
			return fmt.Errorf("Error: No public port '%s' published for %s", args[1], args[0])
		}
		out := make([]string, 0, len(list))
		for _, b := range list {
			out = append(out, hostPort(b))
		}
		slices.SortFunc(out, format.Natural)
		return e.Println(strings.Join(out, "\n"))
	}
}

func hostPort(b network.PortBinding) string {
	ip := ""
	if b.HostIP.IsValid() {
		ip = b.HostIP.String()
	}
	return net.JoinHostPort(ip, b.HostPort)
}

func buildInspect(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	size := f.BoolP("size", "s", false, "Display total file sizes")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		return app.Inspect(e, args, *layout, Lookup(ctx, api, *size))
	}
}

// Lookup finds containers for inspect.
func Lookup(ctx context.Context, api *moby.Client, size bool) format.Lookup {
	return func(ref string) (any, []byte, error) {
		res, err := api.ContainerInspect(ctx, ref, moby.ContainerInspectOptions{Size: size})
		return &res.Container, res.Raw, err
	}
}

func buildPrune(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	force := f.BoolP("force", "f", false, "Do not prompt for confirmation")
	f.Var(&filter, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return func(ctx context.Context, _ []string) error {
		if !*force {
			if err := e.ConfirmPrune("container prune", "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"); err != nil {
				return err
			}
		}
		return e.Prune(func() (string, uint64, error) { return Prune(ctx, e, &filter) })
	}
}

// Prune removes stopped containers and returns what it did, in words, and the
// bytes it freed.
func Prune(ctx context.Context, e *app.Env, given *opt.Filter) (string, uint64, error) {
	filter := given.Clone()
	e.AddPruneFilters(filter)
	api, err := e.API()
	if err != nil {
		return "", 0, err
	}
	res, err := api.ContainerPrune(ctx, moby.ContainerPruneOptions{Filters: filter.Values()})
	if err != nil || len(res.Report.ContainersDeleted) == 0 {
		return "", 0, err
	}
	return "Deleted Containers:\n" + strings.Join(res.Report.ContainersDeleted, "\n") + "\n", res.Report.SpaceReclaimed, nil
}

func buildUpdate(e *app.Env, f *pflag.FlagSet) app.Run {
	var r container.Resources
	var memory, reservation opt.Bytes
	var swap opt.SwapBytes
	var cpus opt.CPUs
	var pids int64
	var restart string
	f.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, `Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)`)
	f.Int64Var(&r.CPUPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	f.Int64Var(&r.CPUQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	f.Int64Var(&r.CPURealtimePeriod, "cpu-rt-period", 0, "Limit the CPU real-time period in microseconds")
	f.Int64Var(&r.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Limit the CPU real-time runtime in microseconds")
	f.StringVar(&r.CpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	f.StringVar(&r.CpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	f.Int64VarP(&r.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	f.VarP(&memory, "memory", "m", "Memory limit")
	f.Var(&reservation, "memory-reservation", "Memory soft limit")
	f.Var(&swap, "memory-swap", `Swap limit equal to memory plus swap: -1 to enable unlimited swap`)
	var kernel opt.Bytes
	f.Var(&kernel, "kernel-memory", "Kernel memory limit (deprecated)")
	deprecate(f, "kernel-memory", "and no longer supported by the kernel")
	f.StringVar(&restart, "restart", "", "Restart policy to apply when a container exits")
	f.Int64Var(&pids, "pids-limit", 0, `Tune container pids limit (set -1 for unlimited)`)
	f.Var(&cpus, "cpus", "Number of CPUs")
	devices := newDeviceLimits(f)
	rates := newRates(f)
	more := newChangeFlags(f)
	ports := newRepublish(f)
	return func(ctx context.Context, args []string) error {
		if f.NFlag() == 0 {
			return errors.New("you must provide one or more flags when using this command")
		}
		policy := container.RestartPolicy{}
		var err error
		if restart != "" {
			if policy, err = restartPolicy(restart); err != nil {
				return err
			}
		}
		r.Memory, r.MemoryReservation, r.MemorySwap, r.NanoCPUs = int64(memory), int64(reservation), int64(swap), int64(cpus)
		if f.Changed("pids-limit") {
			r.PidsLimit = &pids
		}
		devices.fill(&r)
		api, err := e.API()
		if err != nil {
			return err
		}
		if err := rates.need(ctx, api); err != nil {
			return err
		}
		u := extended{UpdateConfig: container.UpdateConfig{Resources: r, RestartPolicy: policy}, Asked: rates.asked()}
		if u.changes, err = more.changes(); err != nil {
			return err
		}
		if err := more.need(ctx, api); err != nil {
			return err
		}
		if u.republishing, err = ports.asked(); err != nil {
			return err
		}
		if !u.republishing.empty() {
			if err := app.NeedLade(ctx, api, "--publish-add and --publish-rm need"); err != nil {
				return err
			}
		}
		var warnings []string
		var errs []error
		for _, id := range args {
			said, err := u.send(ctx, e, api, id)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if err := e.Println(id); err != nil {
				return err
			}
			warnings = append(warnings, said...)
		}
		if len(warnings) > 0 {
			if err := e.Println(strings.Join(warnings, "\n")); err != nil {
				return err
			}
		}
		return errors.Join(errs...)
	}
}
