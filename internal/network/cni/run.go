package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"lade/internal/errdefs"
	"lade/internal/trace"
)

// Call is what the plugins are asked about: an interface of a container.
type Call struct {
	Bin         []string // where the plugins are
	ContainerID string
	NetNS       string // path of the namespace; "" when it is gone, for DEL only
	Interface   string
	Ports       []Port // for plugins with the capability "portMappings"
	MAC         string // for those with "mac"; "" for any
}

// Port is a published port, in the words of the convention "portMappings".
type Port struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// Error is a plugin's own account of what went wrong.
type Error struct {
	Code    uint   `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details"`
}

func (e *Error) Error() string {
	if e.Details != "" {
		return fmt.Sprintf("%s; %s (code %d)", e.Msg, e.Details, e.Code)
	}
	return fmt.Sprintf("%s (code %d)", e.Msg, e.Code)
}

// Add asks the plugins, in their order, for the interface, and returns the last
// one's result, which CHECK and DEL are given. After an error the caller asks for
// DEL. It blocks until they have ended or ctx ends, which kills them. Errors:
// Internal, with what the plugin says.
func (c *Conf) Add(ctx context.Context, call Call) (json.RawMessage, error) {
	var prev json.RawMessage
	for _, p := range c.Plugins {
		out, err := c.run(ctx, "ADD", p, call, prev)
		if err != nil {
			return prev, err
		}
		if len(bytes.TrimSpace(out)) == 0 {
			return prev, errdefs.Internalf("CNI configuration %s: a plugin answers nothing to ADD", c.Name)
		}
		prev = out
	}
	return prev, nil
}

// Check asks the plugins whether the interface is still as they made it; it asks
// nothing where the configuration forbids it, or is of a version before CHECK.
func (c *Conf) Check(ctx context.Context, call Call, result json.RawMessage) error {
	if c.DisableCheck || strings.HasPrefix(c.Version, "0.3.") {
		return nil
	}
	for _, p := range c.Plugins {
		if _, err := c.run(ctx, "CHECK", p, call, result); err != nil {
			return err
		}
	}
	return nil
}

// Del asks the plugins, the last one first, to take back what ADD did, also what
// it left after an error, or a part of it. All are asked, whatever one says.
func (c *Conf) Del(ctx context.Context, call Call, result json.RawMessage) error {
	var errs []error
	for _, p := range slices.Backward(c.Plugins) {
		_, err := c.run(ctx, "DEL", p, call, result)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// run runs one plugin and returns what it printed.
func (c *Conf) run(ctx context.Context, command string, raw json.RawMessage, call Call, prev json.RawMessage) (json.RawMessage, error) {
	var p plugin
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, errdefs.Invalidf("CNI configuration %s: %w", c.Name, err)
	}
	path, err := program(call.Bin, p.Type)
	if err != nil {
		return nil, err
	}
	in, err := c.input(raw, p, call, prev)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.WaitDelay = time.Second // for what it has started itself
	cmd.Stdin = bytes.NewReader(in)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + call.ContainerID, "CNI_NETNS=" + call.NetNS, "CNI_IFNAME=" + call.Interface,
		"CNI_PATH=" + strings.Join(call.Bin, ":"), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	span := trace.Begin(trace.Net, "cni "+strings.ToLower(command), p.Type)
	if err := span.End(cmd.Run()); err != nil {
		said := &Error{}
		if json.Unmarshal(out.Bytes(), said) == nil && (said.Msg != "" || said.Code != 0) {
			err = said
		} else if complaint.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
		}
		return nil, errdefs.Internalf("CNI plugin %s, %s: %w", p.Type, command, err)
	}
	return out.Bytes(), nil
}

// input is the configuration as a plugin gets it: its own part, with what is
// common to all, without what only we need to know.
func (c *Conf) input(raw json.RawMessage, p plugin, call Call, prev json.RawMessage) ([]byte, error) {
	conf := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // so that none changes
	if err := d.Decode(&conf); err != nil {
		return nil, err
	}
	conf["name"], conf["cniVersion"] = c.Name, c.Version
	delete(conf, "capabilities")
	runtime := map[string]any{}
	if p.Capabilities["portMappings"] && len(call.Ports) > 0 {
		runtime["portMappings"] = call.Ports
	}
	if p.Capabilities["mac"] && call.MAC != "" {
		runtime["mac"] = call.MAC
	}
	if len(runtime) > 0 {
		conf["runtimeConfig"] = runtime
	}
	if prev != nil {
		conf["prevResult"] = prev
	}
	return json.Marshal(conf)
}
