package system

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/moby/moby/api/types/system"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
)

// versionTemplate is filled with a versionInfo.
const versionTemplate = `{{with .Client -}}
Client:{{with .Platform}}{{with .Name}} {{.}}{{end}}{{end}}
 Version:	{{.Version}}
 API version:	{{.APIVersion}}{{if ne .APIVersion .DefaultAPIVersion}} (downgraded from {{.DefaultAPIVersion}}){{end}}
 Go version:	{{.GoVersion}}
 Git commit:	{{.GitCommit}}
 Built:	{{.BuildTime}}
 OS/Arch:	{{.Os}}/{{.Arch}}
 Context:	{{.Context}}
{{- end}}
{{- with .Server}}

Server:{{with .Platform.Name}} {{.}}{{end}}
{{- range $c := .Components}}
 {{$c.Name}}:
{{- if eq $c.Name "Engine"}}
  Version:	{{.Version}}
  API version:	{{index .Details "ApiVersion"}} (minimum version {{index .Details "MinAPIVersion"}})
  Go version:	{{index .Details "GoVersion"}}
  Git commit:	{{index .Details "GitCommit"}}
  Built:	{{index .Details "BuildTime"}}
  OS/Arch:	{{index .Details "Os"}}/{{index .Details "Arch"}}
  Experimental:	{{index .Details "Experimental"}}
{{- else}}
  Version:	{{.Version}}
{{- range keys .Details}}
  {{.}}:	{{index $c.Details .}}
{{- end}}
{{- end}}
{{- end}}
{{- end}}`

// versionInfo is what a template for version sees. Its types have Docker's names:
// they are in what is said of a field that does not exist.
type versionInfo struct {
	Client clientVersion
	Server *serverVersion
}

type serverVersion system.VersionResponse

type clientVersion struct {
	Platform          *system.PlatformInfo `json:"Platform,omitempty"`
	Version           string               `json:"Version,omitempty"`
	APIVersion        string               `json:"ApiVersion,omitempty"`
	DefaultAPIVersion string               `json:"DefaultAPIVersion,omitempty"`
	GitCommit         string               `json:"GitCommit,omitempty"`
	GoVersion         string               `json:"GoVersion,omitempty"`
	Os                string               `json:"Os,omitempty"`
	Arch              string               `json:"Arch,omitempty"`
	BuildTime         string               `json:"BuildTime,omitempty"`
	Context           string               `json:"Context"`
}

func ourVersion(e *app.Env) clientVersion {
	v := clientVersion{
		Version: app.Version, DefaultAPIVersion: moby.MaxAPIVersion, GitCommit: app.Commit(), GoVersion: runtime.Version(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, BuildTime: "unknown", Context: "default",
	}
	if name, _, err := e.Options.ContextName(e.Config()); err == nil {
		v.Context = name
	}
	if t := app.CommitTime(); t != "" {
		v.BuildTime = ansi(t)
	}
	return v
}

// ansi writes an RFC 3339 time the way version does.
func ansi(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.Format(time.ANSIC)
}

func buildVersion(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	return func(ctx context.Context, _ []string) error {
		text := *layout
		switch text {
		case "":
			text = versionTemplate
		case format.JSON:
			text = "{{json .}}"
		}
		t, err := format.Parse("")
		if err == nil {
			t, err = t.New("version").Funcs(template.FuncMap{"keys": func(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }}).Parse(text)
		}
		if err != nil {
			return &app.Exit{Code: 64, Msg: "template parsing error: " + err.Error()}
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		v := versionInfo{Client: ourVersion(e)}
		res, serverErr := api.ServerVersion(ctx, moby.ServerVersionOptions{})
		if serverErr == nil {
			v.Server = server(&res)
		}
		v.Client.APIVersion = api.ClientVersion()
		w := tabwriter.NewWriter(e.Out, 20, 1, 1, ' ', 0)
		err = t.Execute(w, v)
		if _, werr := fmt.Fprintln(w); err == nil {
			err = werr
		}
		if ferr := w.Flush(); err == nil {
			err = ferr
		}
		if serverErr != nil {
			return serverErr
		}
		return err
	}
}

// server is the engine's answer with the fields that the client library leaves
// to its component "Engine".
func server(r *moby.ServerVersionResult) *serverVersion {
	v := &serverVersion{
		Platform: system.PlatformInfo{Name: r.Platform.Name}, Version: r.Version, APIVersion: r.APIVersion, MinAPIVersion: r.MinAPIVersion,
		Os: r.Os, Arch: r.Arch, Components: r.Components,
	}
	i := slices.IndexFunc(v.Components, func(c system.ComponentVersion) bool { return c.Name == "Engine" })
	if i < 0 {
		v.Components = append(v.Components, system.ComponentVersion{Name: "Engine", Version: r.Version, Details: map[string]string{
			"ApiVersion": r.APIVersion, "MinAPIVersion": r.MinAPIVersion, "Os": r.Os, "Arch": r.Arch, "Experimental": "false",
		}})
		return v
	}
	d := v.Components[i].Details
	v.GitCommit, v.GoVersion, v.KernelVersion, v.BuildTime = d["GitCommit"], d["GoVersion"], d["KernelVersion"], d["BuildTime"]
	v.Experimental, _ = strconv.ParseBool(d["Experimental"])
	if d["BuildTime"] != "" {
		d["BuildTime"] = ansi(d["BuildTime"])
	}
	return v
}
