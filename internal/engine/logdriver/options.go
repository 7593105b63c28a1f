package logdriver

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/logs"
)

// Rotation of logs unless the container says otherwise: bounded.
const (
	defaultSize   = 20 << 20
	defaultFiles  = 5
	defaultBuffer = 1 << 20 // Docker's max-buffer-size
)

// Names are the drivers that there are.
func Names() []string {
	return []string{"fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"}
}

// options are what each driver takes beside common ones.
func options(driver string) (own []string, known bool) {
	attrs := []string{"labels", "labels-regex", "env", "env-regex", "tag"}
	switch driver {
	case "none":
		return nil, true
	case "local":
		return []string{"max-size", "max-file", "compress"}, true
	case "json-file":
		return append(attrs, "max-size", "max-file", "compress"), true
	case "journald":
		return append(attrs, "journald-address"), true
	case "syslog":
		return append(attrs, "syslog-address", "syslog-facility", "syslog-format",
			"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"), true
	case "gelf":
		return append(attrs, "gelf-address", "gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"), true
	case "fluentd":
		return append(attrs, "fluentd-address", "fluentd-async", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries",
			"fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout", "fluentd-read-timeout"), true
	}
	return nil, false
}

// common are the options of every driver.
var common = [...]string{"mode", "max-buffer-size"}

// cache are the options of drivers that keep nothing themselves.
var cache = [...]string{"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}

// remote reports whether a driver sends a log elsewhere.
func remote(driver string) bool {
	switch driver {
	case "journald", "syslog", "gelf", "fluentd":
		return true
	}
	return false
}

// Check answers for a driver or options that cannot be: Invalid, or
// NotImplemented for drivers of Docker's that are not there. Errors are in
// Docker's words.
func Check(c container.LogConfig) error {
	own, known := options(c.Type)
	if !known {
		switch c.Type {
		case "splunk", "awslogs", "gcplogs", "etwlogs":
			return errdefs.NotImplementedf("log driver %q is not implemented yet", c.Type)
		}
		return errdefs.Invalidf("logger: no log driver named '%s' is registered", c.Type)
	}
	if c.Type == "none" { // Docker takes any
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(c.Config)) {
		switch {
		case slices.Contains(own, k), slices.Contains(common[:], k), remote(c.Type) && slices.Contains(cache[:], k):
		default:
			return errdefs.Invalidf("unknown log opt '%s' for %s log driver", k, c.Type)
		}
	}
	if err := checkMode(c.Config); err != nil {
		return err
	}
	if _, err := kept(c); err != nil {
		return err
	}
	if _, err := choose(c.Config, Info{}); err != nil {
		return err
	}
	if _, err := expand(tag(c), Info{}); err != nil {
		return err
	}
	if !remote(c.Type) {
		return nil
	}
	_, err := parseTarget(c)
	return err
}

func checkMode(o map[string]string) error {
	size, sized := o["max-buffer-size"]
	switch mode := o["mode"]; mode {
	case "", "blocking":
		if sized {
			return errdefs.Invalidf("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
		}
	case "non-blocking":
	default:
		return errdefs.Invalidf("logger: logging mode not supported: %s", mode)
	}
	if sized {
		if _, err := units.RAMInBytes(size); err != nil {
			return errdefs.Invalidf("error parsing option max-buffer-size: %w", err)
		}
	}
	return nil
}

// File is how a container's output is kept: the name of the file below its
// directory, and the file's form. ok is false if nothing is kept.
func File(c container.LogConfig, id string) (name string, form logs.Format, ok bool) {
	switch {
	case c.Type == "none", remote(c.Type) && disabled(c.Config):
		return "", "", false
	case c.Type == "local":
		return "container.log", logs.FormatLocal, true
	case remote(c.Type):
		return "container-cached.log", logs.FormatLocal, true
	}
	return id + "-json.log", logs.FormatJSON, true
}

// keep are the options of what is kept on disk.
type keep struct {
	size     int64
	files    int
	compress bool
}

// kept reads them.
func kept(c container.LogConfig) (k keep, err error) {
	prefix := ""
	k = keep{defaultSize, defaultFiles, c.Type != "json-file"}
	if remote(c.Type) {
		prefix = "cache-"
		if v, given := c.Config["cache-disabled"]; given {
			if _, err := strconv.ParseBool(v); err != nil {
				return k, errdefs.Invalidf("invalid value for cache-disabled: %q", v)
			}
		}
	}
	size, sized := c.Config[prefix+"max-size"]
	if sized {
		if k.size, err = parseSize(size); err != nil {
			return k, errdefs.Invalidf("invalid value for %smax-size: %q", prefix, size)
		}
		if c.Type == "json-file" {
			k.files = 1 // as Docker
		}
	}
	if v, given := c.Config[prefix+"max-file"]; given {
		if k.files, err = strconv.Atoi(v); err != nil || k.files < 1 {
			return k, errdefs.Invalidf("%smax-file cannot be less than 1", prefix)
		}
	}
	if v, given := c.Config[prefix+"compress"]; given {
		if k.compress, err = strconv.ParseBool(v); err != nil {
			return k, errdefs.Invalidf("invalid value for %scompress: %q", prefix, v)
		}
		if k.compress && c.Type == "json-file" && (k.files < 2 || k.size == 0) {
			return k, errdefs.Invalidf("compress cannot be true when max-file is less than 2 or max-size is not set")
		}
	}
	return k, nil
}

// parseSize reads a number of bytes; "-1" is without limit, which is 0.
func parseSize(s string) (int64, error) {
	if s == "-1" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err == nil && n < 0 {
		err = errdefs.Invalidf("a size is not negative")
	}
	return n, err
}

// regex compiles an option that is a regular expression; nil if it is not given.
func regex(o map[string]string, name string) (*regexp.Regexp, error) {
	v, given := o[name]
	if !given || v == "" {
		return nil, nil
	}
	re, err := regexp.Compile(v)
	if err != nil {
		return nil, errdefs.Invalidf("invalid value for %s: %w", name, err)
	}
	return re, nil
}

// hostname is the machine's, for messages that carry it.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// disabled reports whether a driver that keeps nothing has no cache either.
func disabled(o map[string]string) bool {
	on, err := strconv.ParseBool(o["cache-disabled"])
	return err == nil && on
}
