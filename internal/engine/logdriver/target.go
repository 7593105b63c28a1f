package logdriver

import (
	"compress/flate"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/logs/relay"
	"lade/internal/supervisor/wire"
)

// journalSocket is where systemd-journald listens.
const journalSocket = "/run/systemd/journal/socket"

// parseTarget reads the options of a driver that sends a log elsewhere. Names of
// hosts in its addresses are not looked up yet.
func parseTarget(c container.LogConfig) (t wire.Target, err error) {
	o := c.Config
	t = wire.Target{Driver: c.Type, NonBlocking: o["mode"] == "non-blocking", MaxBuffer: defaultBuffer}
	switch c.Type {
	case "journald":
		err = journald(&t, o)
	case "syslog":
		err = syslog(&t, o)
	case "gelf":
		err = gelf(&t, o)
	case "fluentd":
		err = fluentd(&t, o)
	}
	return t, err
}

// journald's socket is systemd's, or that of journald-address, which only lade
// has: a journal in a namespace or a container.
func journald(t *wire.Target, o map[string]string) error {
	t.Network, t.Addresses = "unixgram", []string{journalSocket}
	if a, given := o["journald-address"]; given {
		path, ok := strings.CutPrefix(a, "unixgram://")
		if !ok || !strings.HasPrefix(path, "/") {
			return errdefs.Invalidf("journald-address should be in form unixgram:///path, got %v", a)
		}
		t.Addresses[0] = path
	}
	if _, err := os.Stat(t.Addresses[0]); err != nil {
		return errdefs.Invalidf("journald is not enabled on this host")
	}
	return nil
}

// facilities are those of syslog(3), in the order of their numbers.
var facilities = [...]string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "", "",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

func syslog(t *wire.Target, o map[string]string) error {
	facility, ok := parseFacility(o["syslog-facility"])
	if !ok {
		return errdefs.Invalidf("invalid syslog facility")
	}
	t.Facility = facility
	switch t.Format = o["syslog-format"]; t.Format {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return errdefs.Invalidf("Invalid syslog format")
	}
	address := o["syslog-address"]
	if address == "" {
		t.Network, t.Addresses = "unixgram", []string{"/dev/log", "/var/run/syslog", "/var/run/log"}
		return nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return errdefs.Invalidf("%w", err)
	}
	switch t.Network = u.Scheme; u.Scheme {
	case "unix", "unixgram":
		if _, err := os.Stat(u.Path); err != nil {
			return errdefs.Invalidf("%w", err)
		}
		t.Addresses = []string{u.Path}
		return nil
	case "udp", "tcp":
	case "tcp+tls":
		_, skip := o["syslog-tls-skip-verify"] // whatever it says, as in Docker
		t.Network = "tcp"
		t.TLS = &wire.TLS{Name: u.Hostname(), CA: o["syslog-tls-ca-cert"], Cert: o["syslog-tls-cert"], Key: o["syslog-tls-key"], SkipVerify: skip}
		if _, err := relay.Config(t.TLS); err != nil {
			return err
		}
	default:
		return errdefs.Invalidf("unsupported scheme: '%s'", u.Scheme)
	}
	host := u.Host
	if _, _, err := net.SplitHostPort(host); err != nil {
		if !strings.Contains(err.Error(), "missing port in address") {
			return errdefs.Invalidf("%w", err)
		}
		host = net.JoinHostPort(strings.Trim(host, "[]"), "514")
	}
	t.Addresses = []string{host}
	return nil
}

func parseFacility(s string) (int, bool) {
	if s == "" {
		return 3, true // daemon
	}
	for n, name := range facilities {
		if s == name && name != "" || s == strconv.Itoa(n) && name != "" {
			return n, true
		}
	}
	return 0, false
}

func gelf(t *wire.Target, o map[string]string) error {
	address := o["gelf-address"]
	if address == "" {
		return errdefs.Invalidf("gelf-address is a required parameter")
	}
	u, err := url.Parse(address)
	if err != nil {
		return errdefs.Invalidf("%w", err)
	}
	if u.Scheme != "udp" && u.Scheme != "tcp" {
		return errdefs.Invalidf("gelf: endpoint needs to be TCP or UDP")
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return errdefs.Invalidf("gelf: please provide gelf-address as proto://host:port")
	}
	t.Network, t.Addresses = u.Scheme, []string{u.Host}
	t.Compression = o["gelf-compression-type"]
	for _, k := range []string{"gelf-compression-type", "gelf-compression-level", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"} {
		v, given := o[k]
		if !given {
			continue
		}
		if tcp := strings.HasPrefix(k, "gelf-tcp"); tcp != (u.Scheme == "tcp") {
			return errdefs.Invalidf("%s is not supported with %s", k, strings.ToUpper(u.Scheme))
		}
		n, err := strconv.Atoi(v)
		bad := err != nil || n < 0
		switch k {
		case "gelf-compression-type":
			bad = v != "gzip" && v != "zlib" && v != "none"
		case "gelf-compression-level":
			t.Level = n
			bad = err != nil || n < flate.DefaultCompression || n > flate.BestCompression
		}
		if bad {
			return errdefs.Invalidf("unknown value %q for log opt %q for gelf log driver", v, k)
		}
	}
	return nil
}

// fluentd reads all of Docker's options. What they say of buffers and retries
// is taken and means nothing: waiting and dropping follow mode and
// max-buffer-size, and a lost connection is tried again for ever.
func fluentd(t *wire.Target, o map[string]string) error {
	if err := fluentdAddress(t, o["fluentd-address"]); err != nil {
		return errdefs.Invalidf("invalid fluentd-address (%s): %w", o["fluentd-address"], err)
	}
	for _, k := range []string{"fluentd-async", "fluentd-request-ack", "fluentd-sub-second-precision"} {
		v, given := o[k]
		if !given {
			continue
		}
		on, err := strconv.ParseBool(v)
		if err != nil {
			return errdefs.Invalidf("invalid value for %s: %w", k, err)
		}
		switch k {
		case "fluentd-request-ack":
			t.Ack = on
		case "fluentd-sub-second-precision":
			t.SubSecond = on
		}
	}
	for _, k := range []string{"fluentd-async-reconnect-interval", "fluentd-retry-wait", "fluentd-write-timeout", "fluentd-read-timeout"} {
		if v, given := o[k]; given {
			if _, err := time.ParseDuration(v); err != nil {
				return errdefs.Invalidf("invalid value for %s: %w", k, err)
			}
		}
	}
	return nil
}

func fluentdAddress(t *wire.Target, address string) error {
	if address == "" {
		address = "127.0.0.1"
	}
	if !strings.Contains(address, "://") {
		address = "tcp://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "unix":
		if strings.TrimLeft(u.Path, "/") == "" {
			return errdefs.Invalidf("path is empty")
		}
		t.Network, t.Addresses = "unix", []string{u.Path}
		return nil
	case "tcp":
	case "tls":
		t.TLS = &wire.TLS{Name: u.Hostname()}
	default:
		return errdefs.Invalidf("unsupported scheme: '%s'", u.Scheme)
	}
	if u.Path != "" {
		return errdefs.Invalidf("should not contain a path element")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "24224"
	}
	t.Network, t.Addresses = "tcp", []string{net.JoinHostPort(host, port)}
	if t.TLS != nil {
		t.TLS.Name = host
	}
	return nil
}
