// Package registry holds the commands on registries: log in, log out, search.
//
// Credentials go where the user's config.json says: a helper, or the file.
//
// Sources: docs.docker.com/reference/cli/docker/login, Docker Engine API (auth,
// images/search), docker-credential-helpers.
package registry

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/client"
	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

// Commands are those on registries.
func Commands() []app.Command {
	return []app.Command{
		{Use: "login [OPTIONS] [SERVER]", Short: "Authenticate to a registry", Long: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.", Args: app.AtMost(1), Top: 8, Build: buildLogin},
		{Use: "logout [SERVER]", Short: "Log out from a registry", Long: "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.", Args: app.AtMost(1), Top: 9, Build: buildLogout},
		{Use: "search [OPTIONS] TERM", Short: "Search Docker Hub for images", Args: app.Exactly(1), Top: 10, Build: buildSearch},
	}
}

type login struct {
	env                    *app.Env
	user, password, server string
	fromStdin              bool
}

func buildLogin(e *app.Env, f *pflag.FlagSet) app.Run {
	l := &login{env: e}
	f.StringVarP(&l.user, "username", "u", "", "Username")
	f.StringVarP(&l.password, "password", "p", "", "Password or Personal Access Token (PAT)")
	f.BoolVar(&l.fromStdin, "password-stdin", false, "Take the Password or Personal Access Token (PAT) from stdin")
	return func(ctx context.Context, args []string) error {
		switch {
		case f.Changed("password-stdin") && f.Changed("password"):
			return errors.New("conflicting options: cannot specify both --password and --password-stdin")
		case f.Changed("password-stdin") && !f.Changed("username"):
			return errors.New("the --password-stdin option requires --username to be set")
		case f.Changed("username") && l.user == "":
			return errors.New("username is empty")
		case f.Changed("password") && l.password == "":
			return errors.New("password is empty")
		}
		l.server = client.DefaultRegistry
		if len(args) > 0 && args[0] != "docker.io" {
			l.server = client.Hostname(args[0])
		}
		return l.run(ctx)
	}
}

func (l *login) run(ctx context.Context) error {
	e := l.env
	if l.password != "" {
		e.Complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	if l.fromStdin {
		b, err := io.ReadAll(e.In)
		if err != nil {
			return err
		}
		l.password = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	}
	if l.user == "" && l.password == "" {
		a, err := e.Config().Auth(l.server)
		if err == nil && a.Username != "" && a.Password != "" {
			e.Complain("Authenticating with existing credentials... [Username: " + a.Username + "]")
			if err := l.with(ctx, a); err == nil {
				return nil
			}
			e.Complain("Stored credentials invalid or expired")
		}
		l.user = a.Username
	}
	if (l.user == "" || l.password == "") && !e.In.IsTerminal() {
		return errors.New("Error: Cannot perform an interactive login from a non TTY device")
	}
	if err := l.prompt(); err != nil {
		return err
	}
	return l.with(ctx, registry.AuthConfig{Username: l.user, Password: l.password, ServerAddress: l.server})
}

// prompt asks on the terminal for what is missing.
func (l *login) prompt() error {
	e := l.env
	if l.user == "" || l.password == "" {
		question := "Username: "
		if l.user != "" {
			question = fmt.Sprintf("Username (%s): ", l.user)
		}
		if _, err := io.WriteString(e.Out, question); err != nil {
			return err
		}
		line, err := bufio.NewReader(e.In).ReadString('\n')
		if err != nil && line == "" {
			return err
		}
		l.user = cmp.Or(strings.TrimSpace(line), l.user)
	}
	if l.user == "" {
		return errors.New("error: Non-null Username Required")
	}
	var err error
	if l.password == "" {
		l.password, err = e.In.ReadPassword(e.Out, "Password: ")
	}
	if err == nil && l.password == "" {
		err = errors.New("error: Password Required")
	}
	return err
}

// with lets the engine try credentials and keeps those that work.
func (l *login) with(ctx context.Context, a registry.AuthConfig) error {
	e := l.env
	api, err := e.API()
	if err != nil {
		return err
	}
	res, err := api.RegistryLogin(ctx, moby.RegistryLoginOptions{
		Username: a.Username, Password: a.Password, ServerAddress: l.server, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	})
	if err != nil {
		return err
	}
	a.ServerAddress = l.server
	if res.Auth.IdentityToken != "" {
		a.Password, a.IdentityToken = "", res.Auth.IdentityToken
	}
	plain, err := e.Config().StoreAuth(a)
	if err != nil {
		return fmt.Errorf("Error saving credentials: %w", err)
	}
	if plain {
		e.Complain("\nWARNING! Your credentials are stored unencrypted in '" + e.Config().Path() + "'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n")
	}
	if res.Auth.Status != "" {
		return e.Println(res.Auth.Status)
	}
	return nil
}

func buildLogout(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(_ context.Context, args []string) error {
		server := client.DefaultRegistry
		keys := []string{server}
		if len(args) > 0 && args[0] != "" {
			server = client.Hostname(args[0])
			keys = []string{args[0], server, "http://" + server, "https://" + server}
		}
		if err := e.Println("Removing login credentials for", server); err != nil {
			return err
		}
		for _, k := range keys {
			if _, err := e.Config().EraseAuth(k); err != nil {
				e.Complain("WARNING: could not erase credentials:\n" + k + ": " + err.Error())
			}
		}
		return nil
	}
}

func buildSearch(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	full := f.Bool("no-trunc", false, "Don't truncate output")
	f.VarP(&filter, "filter", "f", "Filter output based on conditions provided")
	limit := f.Int("limit", 0, "Max number of search results")
	layout := f.String("format", "", "Pretty-print search using a Go template")
	return func(ctx context.Context, args []string) error {
		if strings.Contains(args[0], "://") {
			return fmt.Errorf("invalid repository name: repository name (%s) should not have a scheme", args[0])
		}
		o := moby.ImageSearchOptions{Filters: filter.Values(), Limit: *limit}
		var err error
		if named, perr := reference.ParseNormalizedNamed(args[0]); perr == nil {
			if o.RegistryAuth, err = e.RegistryAuth(named); err != nil {
				return err
			}
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.ImageSearch(ctx, args[0], o)
		if err != nil {
			return err
		}
		show := *layout
		if show == "" || show == format.Table {
			show = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"
		}
		rows := make([]format.Row, 0, len(res.Items))
		for _, r := range res.Items {
			d := strings.NewReplacer("\n", " ", "\r", " ").Replace(r.Description)
			if !*full {
				d = format.Ellipsis(d, 45)
			}
			rows = append(rows, format.Row{"Name": r.Name, "Description": d, "StarCount": strconv.Itoa(r.StarCount), "IsOfficial": official(r.IsOfficial)})
		}
		return format.Write(e.Out, show, format.Header{format.Kind: "registry.searchContext", "Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}, rows)
	}
}

// official prints as a mark and marshals as a word.
type official bool

func (o official) String() string {
	if o {
		return "[OK]"
	}
	return ""
}

// MarshalJSON writes "true" or "false".
func (o official) MarshalJSON() ([]byte, error) {
	return []byte(strconv.Quote(strconv.FormatBool(bool(o)))), nil
}
