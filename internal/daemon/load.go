package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"lade/internal/errdefs"
)

// Load reads the configuration: args (without the program's name) over the
// environment over the file over defaults, and validates it. It returns
// pflag.ErrHelp after --help; Usage prints the text. All other errors are
// Invalid, in Docker's words.
//
// The environment has LADE_DATA_ROOT, LADE_EXEC_ROOT, LADE_CONFIG_FILE,
// LADE_DEBUG, LADE_LOG_LEVEL, LADE_SUPERVISOR and LADE_TRACE.
func Load(args []string) (*Config, error) {
	c := Default()
	flags := newFlags()
	list := declare(c, flags)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, err
		}
		return nil, errdefs.Invalidf("%w", err)
	}
	if flags.NArg() > 0 {
		return nil, errdefs.Invalidf("laded accepts no arguments, got %q", flags.Args())
	}
	var wrong problems
	wrong.add(c.readFile(flags, list))
	wrong.add(c.readEnvironment(flags))
	for _, o := range list {
		idle := o.idle || o.flag == "feature" && c.otherFeatures()
		if idle && (o.said || o.flag != "" && flags.Changed(o.flag)) {
			name := o.flag
			if name == "" {
				name = o.key
			}
			c.Without = append(c.Without, name)
		}
	}
	c.TLSChosen = c.TLSChosen || flags.Changed("tls") || flags.Changed("tlsverify")
	c.TLS = c.TLS || c.TLSVerify
	if c.Debug {
		c.LogLevel = "debug"
	}
	c.validate(&wrong)
	if err := wrong.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Usage writes the text of --help.
func Usage(w io.Writer) {
	flags := newFlags()
	declare(Default(), flags)
	fmt.Fprintf(w, "Usage:  laded [OPTIONS]\n\nThe daemon of lade, a container engine.\n\nOptions:\n%s", flags.FlagUsages())
}

func newFlags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("laded", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.SortFlags = true
	return flags
}

// readFile reads the configuration file. Only a file that was asked for must
// be there.
func (c *Config) readFile(flags *pflag.FlagSet, list []*option) error {
	name := c.File
	if name == "" {
		name = os.Getenv("LADE_CONFIG_FILE")
	}
	asked := name != ""
	if !asked {
		name = defaultConfigFile
	}
	c.File = ""
	raw, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil
	}
	if err == nil {
		c.File = name
		err = c.apply(raw, flags, list)
	}
	if err != nil {
		return errdefs.Invalidf("unable to configure the Docker daemon with file %s: %w", name, err)
	}
	return nil
}

// apply sets what the file says.
func (c *Config) apply(raw []byte, flags *pflag.FlagSet, list []*option) error {
	raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")))
	if len(raw) == 0 {
		return nil
	}
	var said map[string]json.RawMessage
	if err := json.Unmarshal(raw, &said); err != nil {
		return err
	}
	// The three proxies stand in an object of their own.
	if p, ok := said["proxies"]; ok {
		var proxies map[string]json.RawMessage
		if err := json.Unmarshal(p, &proxies); err != nil {
			return fmt.Errorf("proxies: %w", err)
		}
		delete(said, "proxies")
		maps.Copy(said, proxies)
	}
	byKey := make(map[string]*option, len(list))
	for _, o := range list {
		if o.key != "" {
			byKey[o.key] = o
		}
	}
	var unknown, conflicts []string
	keys := slices.Sorted(maps.Keys(said))
	for _, key := range keys {
		o := byKey[key]
		switch {
		case o == nil:
			unknown = append(unknown, key)
		case o.flag != "" && flags.Changed(o.flag):
			var v any
			if err := json.Unmarshal(said[key], &v); err != nil { // cannot be: said is valid
				return err
			}
			conflicts = append(conflicts, fmt.Sprintf("%s: (from flag: %v, from file: %v)", key, flags.Lookup(o.flag).Value, v))
		}
	}
	var wrong problems
	if len(unknown) > 0 {
		wrong.invalid("the following directives don't match any configuration option: %s", strings.Join(unknown, ", "))
	}
	if len(conflicts) > 0 {
		wrong.invalid("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(conflicts, ", "))
	}
	for _, key := range keys {
		o := byKey[key]
		if o == nil {
			continue
		}
		if err := decode(said[key], o.target); err != nil {
			wrong.invalid("%s: %w", key, err)
			continue
		}
		o.said = true
		if key == "tls" || key == "tlsverify" {
			c.TLSChosen = true
		}
	}
	return wrong.err()
}

func decode(raw []byte, target any) error {
	if u, ok := target.(json.Unmarshaler); ok {
		return u.UnmarshalJSON(raw)
	}
	return json.Unmarshal(raw, target)
}

// readEnvironment sets what no flag says.
func (c *Config) readEnvironment(flags *pflag.FlagSet) error {
	for name, flag := range map[string]string{
		"LADE_DATA_ROOT": "data-root", "LADE_EXEC_ROOT": "exec-root", "LADE_DEBUG": "debug",
		"LADE_LOG_LEVEL": "log-level", "LADE_SUPERVISOR": "supervisor",
	} {
		v := os.Getenv(name)
		if v == "" || flags.Changed(flag) {
			continue
		}
		if err := flags.Lookup(flag).Value.Set(v); err != nil {
			return errdefs.Invalidf("%s: %w", name, err)
		}
	}
	c.Trace = os.Getenv("LADE_TRACE")
	return nil
}
