// Package contexts holds the commands on contexts: names for engines and how to
// reach them, kept in the user's ~/.docker.
//
// Sources: docs.docker.com/reference/cli/docker/context; the layout of the store
// is described at client.Contexts.
package contexts

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"lade/client"
	"lade/internal/cli/app"
	"lade/internal/cli/format"
)

// Group is the group of commands on contexts.
func Group() app.Command {
	return app.Command{Use: "context", Short: "Manage contexts", Sub: []app.Command{
		{Use: "create [OPTIONS] CONTEXT", Short: "Create a context", Long: long("create"), Args: app.Exactly(1), Build: buildCreate},
		{Use: "export [OPTIONS] CONTEXT [FILE|-]", Short: "Export a context to a tar archive FILE or a tar stream on STDOUT.", Args: app.Between(1, 2), Build: buildExport},
		{Use: "import CONTEXT FILE|-", Short: "Import a context from a tar or zip file", Args: app.Exactly(2), Build: buildImport},
		{Use: "inspect [OPTIONS] [CONTEXT] [CONTEXT...]", Short: "Display detailed information on one or more contexts", Args: app.AtLeast(0), Build: buildInspect},
		{Use: "ls [OPTIONS]", Short: "List contexts", Args: app.None(), Paths: []string{"context ls", "context list"}, Build: buildList},
		{Use: "rm CONTEXT [CONTEXT...]", Short: "Remove one or more contexts", Args: app.AtLeast(1), Paths: []string{"context rm", "context remove"}, Build: buildRemove},
		{Use: "show", Short: "Print the name of the current context", Args: app.None(), Build: buildShow},
		{Use: "update [OPTIONS] CONTEXT", Short: "Update a context", Long: long("update"), Args: app.Exactly(1), Build: buildUpdate},
		{Use: "use CONTEXT", Short: "Set the current docker context", Args: app.Args{Min: 1, Max: 1, Bare: true}, Build: buildUse},
	}}
}

func long(verb string) string {
	return strings.ToUpper(verb[:1]) + verb[1:] + ` a context

Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

$ ` + app.Name + ` context ` + verb + ` my-context --description "some description" --docker "host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file"
`
}

func store(e *app.Env) client.Contexts { return client.Contexts(e.Options.Dir()) }

// endpoint turns the pairs of --docker into an endpoint and its TLS files.
func endpoint(e *app.Env, pairs map[string]string) (client.ContextEndpoint, map[string][]byte, error) {
	ep := client.ContextEndpoint{}
	files := map[string][]byte{}
	if from := pairs["from"]; from != "" {
		c, err := get(e, from)
		if err != nil {
			return ep, nil, err
		}
		f, err := store(e).TLSFiles(from)
		return c.Endpoints["docker"], f, err
	}
	for k, v := range pairs {
		switch k {
		case "host":
			h, err := client.ParseHost(v, false)
			if err != nil {
				return ep, nil, fmt.Errorf("unable to create docker endpoint config: invalid docker endpoint options: %w", err)
			}
			ep.Host = h
			if v == "" {
				ep.Host = ""
			}
		case "skip-tls-verify":
			b, err := strconv.ParseBool(v)
			if err != nil {
				return ep, nil, fmt.Errorf("skip-tls-verify: %w", err)
			}
			ep.SkipTLSVerify = b
		case "ca", "cert", "key":
			b, err := os.ReadFile(v)
			if err != nil {
				return ep, nil, err
			}
			files[k+".pem"] = b
		default:
			return ep, nil, fmt.Errorf("unable to create docker endpoint config: %s: unrecognized config key", k)
		}
	}
	return ep, files, nil
}

// get reads a context, or makes up the default one.
func get(e *app.Env, name string) (*client.Context, error) {
	if name != client.DefaultContext {
		return store(e).Get(name)
	}
	ep, err := (&client.Options{Hosts: e.Options.Hosts, ConfigDir: e.Options.ConfigDir, Context: client.DefaultContext}).Resolve(e.Config())
	if err != nil {
		return nil, err
	}
	host := ep.Host
	for _, v := range []string{"LADE_HOST", "DOCKER_HOST"} {
		if h := os.Getenv(v); h != "" {
			if host, err = client.ParseHost(h, false); err != nil {
				return nil, err
			}
			break
		}
	}
	return &client.Context{Name: client.DefaultContext, Metadata: map[string]any{}, Endpoints: map[string]client.ContextEndpoint{"docker": {Host: host}}}, nil
}

func buildCreate(e *app.Env, f *pflag.FlagSet) app.Run {
	description := f.String("description", "", "Description of the context")
	docker := f.StringToString("docker", nil, "set the docker endpoint")
	from := f.String("from", "", "create context from a named context")
	return func(_ context.Context, args []string) error {
		name := args[0]
		if err := client.ValidContextName(name); err != nil {
			return err
		}
		if _, err := store(e).Get(name); err == nil {
			return fmt.Errorf("context %q already exists", name)
		}
		pairs := *docker
		c := &client.Context{Name: name, Metadata: map[string]any{}}
		if len(pairs) == 0 {
			source := *from
			if source == "" {
				name, _, err := e.Options.ContextName(e.Config())
				if err != nil {
					return err
				}
				source = name
			}
			pairs = map[string]string{"from": source}
			if old, err := get(e, source); err == nil && old.Description() != "" {
				c.Metadata["Description"] = old.Description()
			}
		}
		if *description != "" {
			c.Metadata["Description"] = *description
		}
		ep, files, err := endpoint(e, pairs)
		if err != nil {
			return err
		}
		c.Endpoints = map[string]client.ContextEndpoint{"docker": ep}
		if err := store(e).Put(c, files); err != nil {
			return err
		}
		e.Complain(fmt.Sprintf("Successfully created context %q", name))
		return e.Println(name)
	}
}

func buildUpdate(e *app.Env, f *pflag.FlagSet) app.Run {
	description := f.String("description", "", "Description of the context")
	docker := f.StringToString("docker", nil, "set the docker endpoint")
	return func(_ context.Context, args []string) error {
		if err := client.ValidContextName(args[0]); err != nil {
			return err
		}
		c, err := store(e).Get(args[0])
		if err != nil {
			return err
		}
		if *description != "" {
			c.Metadata["Description"] = *description
		}
		var files map[string][]byte
		if len(*docker) > 0 {
			var ep client.ContextEndpoint
			if ep, files, err = endpoint(e, *docker); err != nil {
				return err
			}
			c.Endpoints["docker"] = ep
		}
		if err := store(e).Put(c, files); err != nil {
			return err
		}
		e.Complain(fmt.Sprintf("Successfully updated context %q", c.Name))
		return e.Println(c.Name)
	}
}

func buildShow(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(context.Context, []string) error {
		name, _, err := e.Options.ContextName(e.Config())
		if err != nil {
			return err
		}
		return e.Println(name)
	}
}

func buildUse(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(_ context.Context, args []string) error {
		name := args[0]
		stored := name
		if name == client.DefaultContext {
			stored = ""
		} else {
			if err := client.ValidContextName(name); err != nil {
				return err
			}
			if _, err := store(e).Get(name); err != nil {
				return err
			}
		}
		if e.Config().CurrentContext() != stored {
			if err := e.Config().SetCurrentContext(stored); err != nil {
				return err
			}
		}
		if err := e.Println(name); err != nil {
			return err
		}
		e.Complain(fmt.Sprintf("Current context is now %q", name))
		for _, v := range []string{"LADE_HOST", "DOCKER_HOST"} {
			if name != client.DefaultContext && os.Getenv(v) != "" {
				e.Complain(fmt.Sprintf("Warning: %[1]s environment variable overrides the active context. To use %[2]q, either set the global --context flag, or unset %[1]s environment variable.", v, name))
			}
		}
		return nil
	}
}

func buildList(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.String("format", "", app.TableFormat)
	quiet := f.BoolP("quiet", "q", false, "Only show context names")
	return func(context.Context, []string) error {
		current, _, err := e.Options.ContextName(e.Config())
		if err != nil {
			return err
		}
		all, err := store(e).List()
		if err != nil {
			return err
		}
		def, err := get(e, client.DefaultContext)
		if err != nil {
			return err
		}
		def.Metadata["Description"] = "Current DOCKER_HOST based configuration"
		all = append(all, def)
		slices.SortFunc(all, func(a, b *client.Context) int { return format.Natural(a.Name, b.Name) })
		show := *layout
		table := show == "" || show == format.Table
		switch {
		case table && *quiet:
			show = "{{.Name}}"
		case table:
			show = "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
		}
		rows := make([]format.Row, 0, len(all))
		for _, c := range all {
			d := c.Description()
			if show[:min(5, len(show))] == format.Table {
				d = format.Ellipsis(d, 60)
			}
			rows = append(rows, format.Row{"Name": c.Name, "Current": c.Name == current, "Description": d, "DockerEndpoint": c.Endpoints["docker"].Host, "Error": ""})
		}
		if err := format.Write(e.Out, show, format.Header{format.Kind: "formatter.clientContextContext", "Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR"}, rows); err != nil {
			return err
		}
		for _, v := range []string{"LADE_HOST", "DOCKER_HOST"} {
			if os.Getenv(v) != "" {
				e.Complain(fmt.Sprintf("Warning: %[1]s environment variable overrides the active context. To use a context, either set the global --context flag, or unset %[1]s environment variable.", v))
				break
			}
		}
		return nil
	}
}

func buildRemove(e *app.Env, f *pflag.FlagSet) app.Run {
	force := f.BoolP("force", "f", false, "Force the removal of a context in use")
	return func(_ context.Context, args []string) error {
		current, _, _ := e.Options.ContextName(e.Config())
		var errs []error
		for _, name := range args {
			err := remove(e, name, name == current, *force)
			if err == nil {
				err = e.Println(name)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

func remove(e *app.Env, name string, current, force bool) error {
	if name == client.DefaultContext {
		return errors.New(`context "default" cannot be removed`)
	}
	if _, err := store(e).Get(name); err != nil {
		if force {
			return nil
		}
		return fmt.Errorf("context %q does not exist", name)
	}
	if current {
		if !force {
			return fmt.Errorf("context %q is in use, set -f flag to force remove", name)
		}
		if err := e.Config().SetCurrentContext(""); err != nil {
			return err
		}
	}
	return store(e).Remove(name)
}

// inspected is a context as inspect prints it.
type inspected struct {
	Name        string
	Metadata    map[string]any
	Endpoints   map[string]client.ContextEndpoint
	TLSMaterial map[string][]string
	Storage     map[string]string
}

func buildInspect(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	return func(_ context.Context, args []string) error {
		if len(args) == 0 {
			name, _, err := e.Options.ContextName(e.Config())
			if err != nil {
				return err
			}
			args = []string{name}
		}
		return app.Inspect(e, args, *layout, func(name string) (any, []byte, error) {
			c, err := get(e, name)
			if err != nil {
				return nil, nil, err
			}
			i := inspected{Name: c.Name, Metadata: c.Metadata, Endpoints: c.Endpoints, TLSMaterial: map[string][]string{},
				Storage: map[string]string{"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"}}
			if name != client.DefaultContext {
				i.Storage = map[string]string{"MetadataPath": store(e).MetaPath(name), "TLSPath": store(e).TLSPath(name)}
				files, err := store(e).TLSFiles(name)
				if err != nil {
					return nil, nil, err
				}
				for base := range files {
					i.TLSMaterial["docker"] = append(i.TLSMaterial["docker"], base)
				}
				slices.Sort(i.TLSMaterial["docker"])
			}
			return i, nil, nil
		})
	}
}

func buildExport(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(_ context.Context, args []string) error {
		c, err := store(e).Get(args[0])
		if err != nil {
			return err
		}
		files, err := store(e).TLSFiles(args[0])
		if err != nil {
			return err
		}
		dest := args[0] + ".dockercontext"
		if len(args) > 1 {
			dest = args[1]
		}
		out := io.Writer(e.Out)
		if dest == "-" {
			if e.Out.IsTerminal() {
				return errors.New("cowardly refusing to export to a terminal, specify a file path")
			}
		} else {
			f, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			out = f
			e.Complain(fmt.Sprintf("Written file %q", dest))
		}
		meta, err := json.Marshal(map[string]any{"Name": c.Name, "Metadata": c.Metadata, "Endpoints": c.Endpoints})
		if err != nil {
			return err
		}
		return writeArchive(out, meta, files)
	}
}

func writeArchive(out io.Writer, meta []byte, files map[string][]byte) error {
	w := tar.NewWriter(out)
	put := func(name string, b []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	err := put("meta.json", meta)
	for base, b := range files {
		err = errors.Join(err, put("tls/docker/"+base, b))
	}
	return errors.Join(err, w.Close())
}

// archiveLimit bounds what is read from an archive of a context.
const archiveLimit = 10 << 20

func buildImport(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(_ context.Context, args []string) error {
		name := args[0]
		if err := client.ValidContextName(name); err != nil {
			return err
		}
		if _, err := store(e).Get(name); err == nil {
			return fmt.Errorf("context %q already exists", name)
		}
		in := io.Reader(e.In)
		if args[1] != "-" {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		c, files, err := readArchive(io.LimitReader(in, archiveLimit))
		if err != nil {
			return err
		}
		c.Name = name
		if err := store(e).Put(c, files); err != nil {
			return err
		}
		if err := e.Println(name); err != nil {
			return err
		}
		e.Complain(fmt.Sprintf("Successfully imported context %q", name))
		return nil
	}
}

func readArchive(in io.Reader) (*client.Context, map[string][]byte, error) {
	var c *client.Context
	files := map[string][]byte{}
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, nil, err
		}
		dir, base := filepath.Split(h.Name)
		switch {
		case h.Name == "meta.json":
			c = &client.Context{}
			if err := json.Unmarshal(b, c); err != nil {
				return nil, nil, err
			}
		case dir == "tls/docker/" && slices.Contains([]string{"ca.pem", "cert.pem", "key.pem"}, base):
			files[base] = b
		default:
			return nil, nil, fmt.Errorf("unexpected context file: %s", h.Name)
		}
	}
	if c == nil {
		return nil, nil, errors.New("invalid context: no metadata found")
	}
	return c, files, nil
}
