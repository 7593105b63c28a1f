package logdriver

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

var info = Info{
	ID: "0123456789abcdef", Name: "web", ImageID: "sha256:fedcba9876543210", ImageName: "nginx:1", Command: "nginx -g x",
	Created: time.Unix(0, 0).UTC(), Env: []string{"A=1", "B=2", "PATH=/bin"}, Labels: map[string]string{"com.x": "y", "other": "z"},
}

type m = map[string]string

func TestCheck(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		driver string
		o      m
		want   string
		kind   errdefs.Kind
	}{
		{"json-file", m{"max-size": "10m", "max-file": "3", "compress": "true", "labels": "a", "env-regex": "^A", "tag": "{{.Name}}", "mode": "non-blocking", "max-buffer-size": "2m"}, "", 0},
		{"none", m{"anything": "x"}, "", 0},
		{"local", m{"max-size": "1k", "compress": "false"}, "", 0},
		{"syslog", m{"syslog-address": "udp://127.0.0.1", "syslog-facility": "local7", "syslog-format": "rfc5424micro", "cache-disabled": "true"}, "", 0},
		{"syslog", m{"syslog-address": "unixgram://" + socket}, "", 0},
		{"gelf", m{"gelf-address": "udp://127.0.0.1:12201", "gelf-compression-type": "zlib", "gelf-compression-level": "9"}, "", 0},
		{"gelf", m{"gelf-address": "tcp://127.0.0.1:12201", "gelf-tcp-max-reconnect": "3"}, "", 0},
		{"fluentd", m{"fluentd-address": "unix://" + socket, "fluentd-request-ack": "true", "fluentd-retry-wait": "1s"}, "", 0},
		{"fluentd", m{"fluentd-address": "fluent:5000"}, "", 0},
		{"journald", m{"journald-address": "unixgram://" + socket, "labels": "x"}, "", 0},

		{"nosuch", nil, "logger: no log driver named 'nosuch' is registered", errdefs.Invalid},
		{"awslogs", nil, `log driver "awslogs" is not implemented yet`, errdefs.NotImplemented},
		{"json-file", m{"syslog-address": "x"}, "unknown log opt 'syslog-address' for json-file log driver", errdefs.Invalid},
		{"json-file", m{"cache-disabled": "true"}, "unknown log opt 'cache-disabled' for json-file log driver", errdefs.Invalid},
		{"local", m{"tag": "x"}, "unknown log opt 'tag' for local log driver", errdefs.Invalid},
		{"json-file", m{"max-file": "0"}, "max-file cannot be less than 1", errdefs.Invalid},
		{"json-file", m{"max-size": "1k", "compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set", errdefs.Invalid},
		{"json-file", m{"mode": "fast"}, "logger: logging mode not supported: fast", errdefs.Invalid},
		{"json-file", m{"max-buffer-size": "1m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'", errdefs.Invalid},
		{"json-file", m{"env-regex": "("}, "invalid value for env-regex: error parsing regexp: missing closing ): `(`", errdefs.Invalid},
		{"json-file", m{"tag": "{{.Nope}}"}, `invalid log tag "{{.Nope}}": can't evaluate field Nope`, errdefs.Invalid},
		{"syslog", m{"syslog-address": "http://x"}, "unsupported scheme: 'http'", errdefs.Invalid},
		{"syslog", m{"syslog-facility": "nine"}, "invalid syslog facility", errdefs.Invalid},
		{"syslog", m{"syslog-format": "x"}, "Invalid syslog format", errdefs.Invalid},
		{"syslog", m{"syslog-address": "unix:///no/such"}, "stat /no/such: no such file or directory", errdefs.Invalid},
		{"syslog", m{"syslog-address": "tcp+tls://x", "syslog-tls-ca-cert": "/not/there"}, `could not read CA certificate "/not/there": open /not/there: no such file or directory`, errdefs.Invalid},
		{"syslog", m{"syslog-address": "tcp+tls://x", "syslog-tls-cert": "/not/there", "syslog-tls-key": "/not/there"}, "Could not load X509 key pair: open /not/there: no such file or directory", errdefs.Invalid},
		{"gelf", nil, "gelf-address is a required parameter", errdefs.Invalid},
		{"gelf", m{"gelf-address": "udp://x"}, "gelf: please provide gelf-address as proto://host:port", errdefs.Invalid},
		{"gelf", m{"gelf-address": "udp://x:1", "gelf-compression-type": "lz"}, `unknown value "lz" for log opt "gelf-compression-type" for gelf log driver`, errdefs.Invalid},
		{"gelf", m{"gelf-address": "tcp://x:1", "gelf-compression-level": "1"}, "gelf-compression-level is not supported with TCP", errdefs.Invalid},
		{"fluentd", m{"fluentd-address": "tcp://x/y"}, "invalid fluentd-address (tcp://x/y): should not contain a path element", errdefs.Invalid},
		{"journald", m{"journald-address": "unixgram:///no/such"}, "journald is not enabled on this host", errdefs.Invalid},
	} {
		err := Check(container.LogConfig{Type: tc.driver, Config: tc.o})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != tc.want || errdefs.KindOf(err) != tc.kind) {
			t.Errorf("%s %v: %v, want %s", tc.driver, tc.o, err, tc.want)
		}
	}
}

func TestTag(t *testing.T) {
	for tag, want := range map[string]string{
		"":                                   "",
		"plain":                              "plain",
		"{{.ID}}/{{.FullID}}":                "0123456789ab/0123456789abcdef",
		"{{.Name}}-{{ .ImageName }}":         "web-nginx:1",
		"{{.ImageID}}{{.DaemonName}}":        "fedcba987654",
		`{{index .ContainerLabels "com.x"}}`: "y",
		`{{upper .Name}} {{.Name | title}}`:  "WEB Web",
		`{{truncate .FullID 4 | upper}}`:     "0123",
		`{{"a b" | json}}`:                   `"a b"`,
	} {
		if got, err := expand(tag, info); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", tag, got, err, want)
		}
	}
	for _, tag := range []string{"{{", "{{}}", "{{.}}", "{{.Name .ID}}", "{{nope .ID}}", `{{"x}}`, "{{.ID | }}", "{{truncate .ID}}", "{{index .ID 1}}"} {
		if got, err := expand(tag, info); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %q, %v", tag, got, err)
		}
	}
}

func FuzzTag(f *testing.F) {
	f.Add(`{{truncate .FullID 4 | upper}} {{index .ContainerLabels "com.x"}}`)
	f.Fuzz(func(t *testing.T, tag string) {
		if _, err := expand(tag, info); err != nil && !strings.HasPrefix(err.Error(), "invalid log tag") {
			t.Errorf("a tag's error: %v", err)
		}
	})
}

func TestLog(t *testing.T) {
	log := func(driver string, o m) wire.Log {
		t.Helper()
		l, err := Log(t.Context(), container.LogConfig{Type: driver, Config: o}, info, "/d")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	got := log("json-file", m{"labels": "other,none", "env-regex": "^[AB]$", "tag": "{{.Name}}", "max-size": "1k", "max-file": "2"})
	want := wire.Log{Driver: "json-file", Path: "/d/0123456789abcdef-json.log", MaxSize: 1024, MaxFile: 2, Attrs: m{"other": "z", "A": "1", "B": "2", "tag": "web"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("json-file: %+v", got)
	}
	if got := log("local", nil); !reflect.DeepEqual(got, wire.Log{Driver: "local", Path: "/d/container.log", MaxSize: 20 << 20, MaxFile: 5, Compress: true}) {
		t.Errorf("local: %+v", got)
	}
	if got := log("none", nil); !reflect.DeepEqual(got, wire.Log{Driver: "none"}) {
		t.Errorf("none: %+v", got)
	}
	got = log("gelf", m{"gelf-address": "udp://127.0.0.1:1", "env": "A", "mode": "non-blocking", "max-buffer-size": "4k", "cache-max-file": "1", "cache-max-size": "5m"})
	if got.Driver != "local" || got.Path != "/d/container-cached.log" || got.MaxFile != 1 || got.MaxSize != 5<<20 || got.Target == nil {
		t.Fatalf("gelf: %+v", got)
	}
	g := got.Target
	if !g.NonBlocking || g.MaxBuffer != 4096 || g.Network != "udp" || !reflect.DeepEqual(g.Addresses, []string{"127.0.0.1:1"}) || g.Tag != "0123456789ab" ||
		g.Fields["_A"] != "1" || g.Fields["_image_name"] != "nginx:1" || g.Fields["_created"] != "1970-01-01T00:00:00Z" {
		t.Errorf("gelf: %+v", g)
	}
	if got := log("syslog", m{"cache-disabled": "true"}); got.Driver != "none" || got.Path != "" || got.Target.Facility != 3 || got.Target.Network != "unixgram" {
		t.Errorf("syslog: %+v", got)
	}
}
