package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/swarm"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

// Groups are the group of commands on secrets and that on configs.
func Groups() []app.Command {
	secrets := group(kind{
		noun: "secret", title: "Secret", from: "Create a secret from a file or STDIN as content", file: "[file|-]", files: app.Between(1, 2),
		create: createSecret, list: listSecrets, get: Secrets, remove: func(ctx context.Context, api *moby.Client, name string) error {
			_, err := api.SecretRemove(ctx, name, moby.SecretRemoveOptions{})
			return err
		},
	})
	configs := group(kind{
		noun: "config", title: "Config", from: "Create a config from a file or STDIN", file: "file|-", files: app.Exactly(2),
		create: createConfig, list: listConfigs, get: Configs, remove: func(ctx context.Context, api *moby.Client, name string) error {
			_, err := api.ConfigRemove(ctx, name, moby.ConfigRemoveOptions{})
			return err
		},
	})
	return []app.Command{secrets, configs}
}

// kind is what secrets and configs differ in.
type kind struct {
	noun, title, from, file string
	files                   app.Args
	create                  func(ctx context.Context, api *moby.Client, s spec) (id string, err error)
	list                    func(ctx context.Context, api *moby.Client, f moby.Filters) ([]item, error)
	get                     func(ctx context.Context, api *moby.Client) format.Lookup
	remove                  func(ctx context.Context, api *moby.Client, name string) error
}

// spec is what is to be created.
type spec struct {
	swarm.Annotations
	driver, template *swarm.Driver
	value            []byte
}

// item is a listed secret or config.
type item struct {
	id string
	swarm.Meta
	swarm.Annotations
	driver string
}

func group(k kind) app.Command {
	upper := strings.ToUpper(k.noun)
	return app.Command{Use: k.noun, Short: "Manage " + k.noun + "s", Sub: []app.Command{
		{Use: "create [OPTIONS] " + upper + " " + k.file, Short: k.from, Args: k.files, Build: k.buildCreate},
		{Use: "inspect [OPTIONS] " + upper + " [" + upper + "...]", Short: "Display detailed information on one or more " + k.noun + "s", Args: app.AtLeast(1), Build: k.buildInspect},
		{Use: "ls [OPTIONS]", Short: "List " + k.noun + "s", Args: app.None(), Paths: []string{k.noun + " ls", k.noun + " list"}, Build: k.buildList},
		{Use: "rm " + upper + " [" + upper + "...]", Short: "Remove one or more " + k.noun + "s", Args: app.AtLeast(1), Paths: []string{k.noun + " rm", k.noun + " remove"}, Build: k.buildRemove},
	}}
}

func (k kind) buildCreate(e *app.Env, f *pflag.FlagSet) app.Run {
	driver := new(string)
	if k.noun == "secret" {
		driver = f.StringP("driver", "d", "", "Secret driver")
	}
	labels := opt.NewList(opt.Label)
	f.VarP(labels, "label", "l", k.title+" labels")
	template := f.String("template-driver", "", "Template driver")
	return func(ctx context.Context, args []string) error {
		s := spec{Annotations: swarm.Annotations{Name: args[0], Labels: opt.Pairs(labels.Values())}, driver: named(*driver), template: named(*template)}
		var err error
		switch {
		case *driver != "" && len(args) > 1:
			return errors.New("when using secret driver secret data must be empty")
		case *driver == "" && len(args) == 1:
			return errors.New("secret file is required")
		case len(args) == 2:
			if s.value, err = read(e, args[1]); err != nil {
				return err
			}
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		id, err := k.create(ctx, api, s)
		if err != nil {
			return err
		}
		return e.Println(id)
	}
}

func named(driver string) *swarm.Driver {
	if driver == "" {
		return nil
	}
	return &swarm.Driver{Name: driver}
}

// most is how much of a value is read: more than an engine takes.
const most = 1 << 20

// read reads a value from a file, or from the standard input.
func read(e *app.Env, path string) ([]byte, error) {
	var from io.Reader = e.In
	name := "STDIN"
	if path != "-" {
		name = path
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("error reading from %s: %w", name, err)
		}
		defer f.Close()
		from = f
	}
	value, err := io.ReadAll(io.LimitReader(from, most))
	if err != nil {
		return nil, fmt.Errorf("error reading from %s: %w", name, err)
	}
	if len(value) == 0 {
		return nil, fmt.Errorf("error reading from %s: data is empty", name)
	}
	return value, nil
}

func (k kind) buildInspect(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	pretty := f.Bool("pretty", false, "Print the information in a human friendly format")
	return func(ctx context.Context, args []string) error {
		if *pretty && *layout != "" {
			return errors.New("--format is incompatible with human friendly format")
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		if !*pretty {
			return app.Inspect(e, args, *layout, k.get(ctx, api))
		}
		get := k.get(ctx, api)
		for _, ref := range args {
			one, _, err := get(ref)
			if err != nil {
				return &app.Exit{Code: 1, Err: err}
			}
			if err := show(e.Out, one); err != nil {
				return err
			}
		}
		return nil
	}
}

// show prints an object for people to read.
func show(out io.Writer, one any) (err error) {
	labels := func(a swarm.Annotations) string {
		if len(a.Labels) == 0 {
			return ""
		}
		return "Labels:\n - " + strings.ReplaceAll(format.Labels(a.Labels), ",", "\n - ") + "\n"
	}
	date := func(t time.Time) string { return strings.ToLower(t.String()) }
	switch o := one.(type) {
	case swarm.Secret:
		_, err = fmt.Fprintf(out, "ID:              %s\nName:              %s\n%sDriver:            %s\nCreated at:        %s\nUpdated at:        %s\n",
			o.ID, o.Spec.Name, labels(o.Spec.Annotations), driverName(o.Spec.Driver), date(o.CreatedAt), date(o.UpdatedAt))
	case swarm.Config:
		_, err = fmt.Fprintf(out, "ID:\t\t\t%s\nName:\t\t\t%s\n%sCreated at:            \t%s\nUpdated at:            \t%s\nData:\n%s\n",
			o.ID, o.Spec.Name, labels(o.Spec.Annotations), date(o.CreatedAt), date(o.UpdatedAt), o.Spec.Data)
	}
	return err
}

func driverName(d *swarm.Driver) string {
	if d == nil {
		return ""
	}
	return d.Name
}

func (k kind) buildList(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	quiet := f.BoolP("quiet", "q", false, "Only display IDs")
	layout := f.String("format", "", app.TableFormat)
	f.VarP(&filter, "filter", "f", "Filter output based on conditions provided")
	return func(ctx context.Context, _ []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		list, err := k.list(ctx, api, filter.Values())
		if err != nil {
			return err
		}
		if *layout == "" && !*quiet {
			*layout = e.Config().Format(k.noun + "Format")
		}
		show := *layout
		switch {
		case (show == "" || show == format.Table) && *quiet:
			show = "{{.ID}}"
		case (show == "" || show == format.Table) && k.noun == "secret":
			show = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}"
		case show == "" || show == format.Table:
			show = "table {{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}"
		}
		slices.SortFunc(list, func(a, b item) int { return format.Natural(a.Name, b.Name) })
		rows := make([]format.Row, len(list))
		for i, o := range list {
			rows[i] = format.Row{"ID": o.id, "Name": o.Name, "CreatedAt": ago(o.CreatedAt), "UpdatedAt": ago(o.UpdatedAt), "Labels": format.Labels(o.Labels)}
			if k.noun == "secret" {
				rows[i]["Driver"] = o.driver
			}
			rows[i].SetLabels(o.Labels)
		}
		header := format.Header{"ID": "ID", "Name": "NAME", "Driver": "DRIVER", "CreatedAt": "CREATED", "UpdatedAt": "UPDATED", "Labels": "LABELS"}
		return format.Write(e.Out, show, header, rows)
	}
}

func ago(t time.Time) string { return units.HumanDuration(time.Now().UTC().Sub(t)) + " ago" }

func (k kind) buildRemove(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range args {
			err := k.remove(ctx, api, name)
			if err == nil {
				err = e.Println(name)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

func createSecret(ctx context.Context, api *moby.Client, s spec) (string, error) {
	res, err := api.SecretCreate(ctx, moby.SecretCreateOptions{Spec: swarm.SecretSpec{Annotations: s.Annotations, Data: s.value, Driver: s.driver, Templating: s.template}})
	return res.ID, err
}

func createConfig(ctx context.Context, api *moby.Client, s spec) (string, error) {
	res, err := api.ConfigCreate(ctx, moby.ConfigCreateOptions{Spec: swarm.ConfigSpec{Annotations: s.Annotations, Data: s.value, Templating: s.template}})
	return res.ID, err
}

func listSecrets(ctx context.Context, api *moby.Client, f moby.Filters) (out []item, err error) {
	res, err := api.SecretList(ctx, moby.SecretListOptions{Filters: f})
	for _, s := range res.Items {
		out = append(out, item{s.ID, s.Meta, s.Spec.Annotations, driverName(s.Spec.Driver)})
	}
	return out, err
}

func listConfigs(ctx context.Context, api *moby.Client, f moby.Filters) (out []item, err error) {
	res, err := api.ConfigList(ctx, moby.ConfigListOptions{Filters: f})
	for _, c := range res.Items {
		out = append(out, item{id: c.ID, Meta: c.Meta, Annotations: c.Spec.Annotations})
	}
	return out, err
}

// Secrets finds secrets for inspect.
func Secrets(ctx context.Context, api *moby.Client) format.Lookup {
	return func(ref string) (any, []byte, error) {
		res, err := api.SecretInspect(ctx, ref, moby.SecretInspectOptions{})
		return res.Secret, res.Raw, err
	}
}

// Configs finds configs for inspect.
func Configs(ctx context.Context, api *moby.Client) format.Lookup {
	return func(ref string) (any, []byte, error) {
		res, err := api.ConfigInspect(ctx, ref, moby.ConfigInspectOptions{})
		return res.Config, res.Raw, err
	}
}
