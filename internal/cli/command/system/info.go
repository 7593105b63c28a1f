package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/client"
	"lade/internal/cli/app"
	"lade/internal/cli/format"
)

// dockerInfo, which has Docker's name for what is said of a field that does not
// exist, is what a template for info sees: the engine's answer, and beside
// it what concerns the client.
type dockerInfo struct {
	*system.Info
	ServerErrors []string    `json:",omitempty"`
	ClientInfo   *clientInfo `json:",omitempty"`
	ClientErrors []string    `json:",omitempty"`
}

type clientInfo struct {
	Debug bool
	clientVersion
	Plugins  []string
	Warnings []string
}

func buildInfo(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	return func(ctx context.Context, _ []string) error {
		i := dockerInfo{Info: &system.Info{}, ClientInfo: &clientInfo{Debug: e.Debug, clientVersion: ourVersion(e), Plugins: []string{}}}
		var connErr error
		if needsServer(*layout, &i) {
			connErr = i.ask(ctx, e, *layout == "")
		}
		if *layout == "" {
			return errors.Join(i.print(e), connErr)
		}
		text := *layout
		if text == format.JSON {
			text = "{{json .}}"
		}
		t, err := format.Parse(text)
		if err != nil {
			return errors.Join(connErr, &app.Exit{Code: 64, Msg: "template parsing error: " + err.Error()})
		}
		err = t.Execute(e.Out, i)
		return errors.Join(connErr, err, e.Println())
	}
}

// ask fills in the engine's side. The error is a failed connection; others are
// part of the answer.
func (i *dockerInfo) ask(ctx context.Context, e *app.Env, pretty bool) error {
	api, err := e.API()
	if err != nil {
		return err
	}
	res, err := api.Info(ctx, moby.InfoOptions{})
	if err == nil {
		i.Info = &res.Info
		return nil
	}
	if pretty {
		i.Info = nil
	}
	if moby.IsErrConnectionFailed(err) {
		return err
	}
	i.ServerErrors = append(i.ServerErrors, err.Error())
	if !pretty {
		e.Complain(err)
	}
	return nil
}

// needsServer is false for templates that print only the client's side.
func needsServer(layout string, i *dockerInfo) bool {
	if layout == "" || layout == format.JSON || layout == "{{json .}}" || !regexp.MustCompile(`\.[a-zA-Z]`).MatchString(layout) {
		return true
	}
	t, err := format.Parse(layout)
	return err != nil || t.Execute(io.Discard, struct {
		ClientInfo   *clientInfo
		ClientErrors []string
	}{i.ClientInfo, nil}) != nil
}

func (i *dockerInfo) print(e *app.Env) error {
	c := i.ClientInfo
	w := e.Out
	fmt.Fprintf(w, "Client:\n Version:    %s\n Context:    %s\n Debug Mode: %v\n\nServer:\n", c.Version, c.Context, c.Debug)
	if i.Info != nil {
		i.printServer(w, e)
	}
	for _, err := range i.ServerErrors {
		e.Complain("ERROR:", err)
	}
	if len(i.ServerErrors) > 0 {
		return errors.New("errors pretty printing info")
	}
	return nil
}

// lines collects "label: value" lines, skipping empty values where asked.
type lines struct{ strings.Builder }

func (l *lines) add(label string, v any)  { fmt.Fprintf(l, " %s: %v\n", label, v) }
func (l *lines) some(label string, v any) { l.someOf(label, fmt.Sprint(v)) }
func (l *lines) someOf(label, v string) {
	if v != "" {
		l.add(label, v)
	}
}

func (i *dockerInfo) printServer(w io.Writer, e *app.Env) {
	l := &lines{}
	l.add("Containers", i.Containers)
	l.add(" Running", i.ContainersRunning)
	l.add(" Paused", i.ContainersPaused)
	l.add(" Stopped", i.ContainersStopped)
	l.add("Images", i.Images)
	l.some("Server Version", i.ServerVersion)
	l.some("Storage Driver", i.Driver)
	for _, s := range i.DriverStatus {
		l.add(" "+s[0], s[1])
	}
	l.some("Logging Driver", i.LoggingDriver)
	l.some("Cgroup Driver", i.CgroupDriver)
	l.some("Cgroup Version", i.CgroupVersion)
	l.WriteString(" Plugins:\n")
	l.add(" Volume", strings.Join(i.Plugins.Volume, " "))
	l.add(" Network", strings.Join(i.Plugins.Network, " "))
	l.some(" Authorization", strings.Join(i.Plugins.Authorization, " "))
	l.add(" Log", strings.Join(i.Plugins.Log, " "))
	if len(i.CDISpecDirs) > 0 {
		l.WriteString(" CDI spec directories:\n  " + strings.Join(i.CDISpecDirs, "\n  ") + "\n")
	}
	if len(i.DiscoveredDevices) > 0 {
		l.WriteString(" Discovered Devices:\n")
		for _, d := range i.DiscoveredDevices {
			l.add(" "+d.Source, d.ID)
		}
	}
	l.add("Swarm", i.Swarm.LocalNodeState)
	i.printSwarm(l)
	if len(i.Runtimes) > 0 {
		l.add("Runtimes", strings.Join(slices.Sorted(maps.Keys(i.Runtimes)), " "))
		l.add("Default Runtime", i.DefaultRuntime)
	}
	if i.OSType == "linux" {
		l.add("Init Binary", i.InitBinary)
		l.add("containerd version", i.ContainerdCommit.ID)
		l.add("runc version", i.RuncCommit.ID)
		l.add("init version", i.InitCommit.ID)
		printSecurity(l, i.SecurityOptions)
	}
	l.some("Kernel Version", i.KernelVersion)
	l.some("Operating System", i.OperatingSystem)
	l.some("OSType", i.OSType)
	l.some("Architecture", i.Architecture)
	l.add("CPUs", i.NCPU)
	l.add("Total Memory", units.BytesSize(float64(i.MemTotal)))
	l.some("Name", i.Name)
	l.some("ID", i.ID)
	l.add("Docker Root Dir", i.DockerRootDir)
	l.add("Debug Mode", i.Info.Debug)
	if i.Info.Debug || e.Debug {
		l.add(" File Descriptors", i.NFd)
		l.add(" Goroutines", i.NGoroutines)
		l.add(" System Time", i.SystemTime)
		l.add(" EventsListeners", i.NEventsListener)
	}
	l.some("HTTP Proxy", i.HTTPProxy)
	l.some("HTTPS Proxy", i.HTTPSProxy)
	l.some("No Proxy", i.NoProxy)
	if a, err := e.Config().Auth(client.DefaultRegistry); err == nil {
		l.some("Username", a.Username)
	}
	if len(i.Labels) > 0 {
		l.WriteString(" Labels:\n  " + strings.Join(i.Labels, "\n  ") + "\n")
	}
	l.add("Experimental", i.ExperimentalBuild)
	i.printRegistries(l)
	l.add("Live Restore Enabled", i.LiveRestoreEnabled)
	l.some("Product License", i.ProductLicense)
	if len(i.DefaultAddressPools) > 0 {
		l.WriteString(" Default Address Pools:\n")
		for _, p := range i.DefaultAddressPools {
			fmt.Fprintf(l, "   Base: %s, Size: %d\n", p.Base, p.Size)
		}
	}
	// A label with nothing after it ends with its colon and a space, as ever.
	_, _ = fmt.Fprintln(w, l.String())
	for _, warning := range i.Info.Warnings {
		e.Complain(warning)
	}
}

func (i *dockerInfo) printSwarm(l *lines) {
	s := &i.Swarm
	if s.LocalNodeState == swarm.LocalNodeStateInactive || s.LocalNodeState == swarm.LocalNodeStateLocked || s.LocalNodeState == "" {
		return
	}
	l.add(" NodeID", s.NodeID)
	l.some(" Error", s.Error)
	l.add(" Is Manager", s.ControlAvailable)
	l.add(" Node Address", s.NodeAddr)
}

// printSecurity prints options such as "name=seccomp,profile=builtin".
func printSecurity(l *lines, options []string) {
	if len(options) == 0 {
		return
	}
	l.WriteString(" Security Options:\n")
	for _, o := range options {
		pairs := strings.Split(o, ",")
		for _, p := range pairs {
			if name, ok := strings.CutPrefix(p, "name="); ok {
				l.WriteString("  " + name + "\n")
			}
		}
		for _, p := range pairs {
			if profile, ok := strings.CutPrefix(p, "profile="); ok {
				l.WriteString("   Profile: " + profile + "\n")
			}
		}
	}
}

func (i *dockerInfo) printRegistries(l *lines) {
	c := i.RegistryConfig
	if c == nil {
		return
	}
	if len(c.InsecureRegistryCIDRs) > 0 || len(c.IndexConfigs) > 0 {
		l.WriteString(" Insecure Registries:\n")
		for _, name := range slices.Sorted(maps.Keys(c.IndexConfigs)) {
			if !c.IndexConfigs[name].Secure {
				l.WriteString("  " + name + "\n")
			}
		}
		for _, p := range c.InsecureRegistryCIDRs {
			l.WriteString("  " + p.String() + "\n")
		}
	}
	if len(c.Mirrors) > 0 {
		l.WriteString(" Registry Mirrors:\n  " + strings.Join(c.Mirrors, "\n  ") + "\n")
	}
}
