package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/errdefs"
)

// script writes a plugin that is a shell script, which finds its input in $in.
func script(t *testing.T, dir, name, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nin=$(cat)\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestRun looks at what plugins are given, in which order, and what is made of
// their answers.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for _, name := range []string{"a", "b"} {
		script(t, dir, name, `echo "`+name+` $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $in" >> `+log+`
[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","from":"`+name+`"}'`)
	}
	if err := os.WriteFile(filepath.Join(dir, "10-x.conflist"), []byte(`{"cniVersion":"1.0.0","name":"net","plugins":[
		{"type":"a","big":12345678901234567890},{"type":"b","capabilities":{"portMappings":true}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Dirs{Conf: []string{dir}, Bin: []string{dir}}.Find("net")
	if err != nil {
		t.Fatal(err)
	}
	if byFile, err := (Dirs{Conf: []string{dir}, Bin: []string{dir}}).Find("10-x"); err != nil || byFile.Name != "net" {
		t.Errorf("by the file's name: %v, %v", byFile, err)
	}
	if !c.Can("portMappings") || c.Can("mac") {
		t.Error("capabilities")
	}
	call := Call{Bin: []string{dir}, ContainerID: "id", NetNS: "/ns", Interface: "eth0", MAC: "02:00:00:00:00:01", Ports: []Port{{HostPort: 80, ContainerPort: 8080, Protocol: "tcp"}}}
	result, err := c.Add(t.Context(), call)
	if err != nil || !strings.Contains(string(result), `"from":"b"`) {
		t.Fatalf("%s, %v", result, err)
	}
	if err := errors.Join(c.Check(t.Context(), call, result), c.Del(t.Context(), call, result)); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	const a, b = `"big":12345678901234567890,"cniVersion":"1.0.0","name":"net",`, `"cniVersion":"1.0.0","name":"net",`
	const from, ports = `"prevResult":{"cniVersion":"1.0.0","from":"%s"},`, `"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"tcp"}]},`
	last := fmt.Sprintf(from, "b")
	want := strings.Join([]string{
		`a ADD id /ns eth0 {` + a + `"type":"a"}`,
		`b ADD id /ns eth0 {` + b + fmt.Sprintf(from, "a") + ports + `"type":"b"}`,
		`a CHECK id /ns eth0 {` + a + last + `"type":"a"}`,
		`b CHECK id /ns eth0 {` + b + last + ports + `"type":"b"}`,
		`b DEL id /ns eth0 {` + b + last + ports + `"type":"b"}`,
		`a DEL id /ns eth0 {` + a + last + `"type":"a"}`, "",
	}, "\n")
	if string(raw) != want {
		t.Errorf("got\n%swant\n%s", raw, want)
	}
}

// TestFailures checks the words of what plugins say, and that one that does not
// answer is ended.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "says", `echo '{"code":7,"msg":"wrong","details":"very"}'; exit 1`)
	script(t, dir, "cries", `echo "oh no" >&2; exit 3`)
	script(t, dir, "mute", ``)
	script(t, dir, "hangs", `exec sleep 1000`)
	for name, want := range map[string]string{
		"says": "CNI plugin says, ADD: wrong; very (code 7)", "cries": "CNI plugin cries, ADD: exit status 3: oh no",
		"mute": "answers nothing to ADD", "hangs": "signal: killed",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if name == "hangs" {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		c := &Conf{Version: "1.0.0", Name: "n", Plugins: []json.RawMessage{json.RawMessage(`{"type":"` + name + `"}`)}}
		if _, err := c.Add(ctx, Call{Bin: []string{dir}}); !errors.Is(err, errdefs.Internal) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// TestRead reads results of the versions that there are.
func TestRead(t *testing.T) {
	for name, tc := range map[string]struct{ result, want string }{
		"bridge": {`{"cniVersion":"1.0.0","interfaces":[{"name":"cni0","mac":"02:00:00:00:00:09"},{"name":"veth1"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/ns"}],
			"ips":[{"interface":0,"address":"10.0.0.1/24"},{"interface":2,"address":"10.0.0.5/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}`,
			"{02:00:00:00:00:01 10.0.0.5/24 invalid Prefix 10.0.0.1 invalid IP}"},
		"old": {`{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.5/24","gateway":"10.0.0.1"},{"version":"6","address":"fd00::5/64"}],
			"routes":[{"dst":"10.9.0.0/16","gw":"10.0.0.9"},{"dst":"::/0","gw":"fd00::1"}]}`,
			"{ 10.0.0.5/24 fd00::5/64 invalid IP fd00::1}"},
		"nothing": {`{}`, "{ invalid Prefix invalid Prefix invalid IP invalid IP}"},
	} {
		got, err := Read(json.RawMessage(tc.result), "eth0")
		if s := fmt.Sprint(got); err != nil || s != tc.want {
			t.Errorf("%s: %s, %v", name, s, err)
		}
	}
	for _, bad := range []string{"", "[]", `{"ips":[{"address":"nonsense"}]}`} {
		if _, err := Read(json.RawMessage(bad), "eth0"); !errors.Is(err, errdefs.Internal) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got, err := Read(json.RawMessage(`{"interfaces":[],"ips":[{"interface":7,"address":"10.0.0.5/24"}]}`), "eth0"); err != nil || got.IPv4.IsValid() {
		t.Errorf("an interface that is not there: %v, %v", got, err)
	}
}
