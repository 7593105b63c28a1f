package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"lade/internal/errdefs"
	"lade/internal/plugin"
)

// patience is how long a plugin may take for an answer.
const patience = 30 * time.Second

// Chain is the plugins that must agree; it may have none.
type Chain struct {
	dirs    plugin.Dirs
	plugins atomic.Pointer[[]*plugin.Plugin]
}

// NewChain returns a chain of the plugins with these names.
func NewChain(names []string, dirs plugin.Dirs) *Chain {
	c := &Chain{dirs: dirs}
	c.Replace(names)
	return c
}

// Replace makes other plugins decide from now on. Requests under way ask those
// that they began with.
func (c *Chain) Replace(names []string) {
	var old, list []*plugin.Plugin
	if p := c.plugins.Load(); p != nil {
		old = *p
	}
	for _, n := range names {
		if slices.ContainsFunc(list, func(p *plugin.Plugin) bool { return p.Name() == n }) {
			continue // asked once, as Docker does
		}
		if i := slices.IndexFunc(old, func(p *plugin.Plugin) bool { return p.Name() == n }); i >= 0 {
			list = append(list, old[i])
			continue
		}
		list = append(list, plugin.New(n, "authz", c.dirs))
	}
	c.plugins.Store(&list)
	for _, p := range old {
		if !slices.Contains(list, p) {
			p.Close()
		}
	}
}

// Names lists the plugins.
func (c *Chain) Names() []string {
	var names []string
	for _, p := range *c.plugins.Load() {
		names = append(names, p.Name())
	}
	return names
}

// question is what a plugin is asked, in the words of the protocol.
type question struct {
	User                    string            `json:"User,omitempty"`
	UserAuthNMethod         string            `json:"UserAuthNMethod,omitempty"`
	RequestMethod           string            `json:"RequestMethod,omitempty"`
	RequestURI              string            `json:"RequestURI,omitempty"`
	RequestBody             []byte            `json:"RequestBody,omitempty"`
	RequestHeaders          map[string]string `json:"RequestHeaders,omitempty"`
	RequestPeerCertificates []string          `json:"RequestPeerCertificates,omitempty"`
	ResponseStatusCode      int               `json:"ResponseStatusCode,omitempty"`
	ResponseBody            []byte            `json:"ResponseBody,omitempty"`
	ResponseHeaders         map[string]string `json:"ResponseHeaders,omitempty"`
}

// ask asks the plugins in order. Errors: Forbidden from one that does not
// agree; Internal when one cannot be asked.
func ask(ctx context.Context, plugins []*plugin.Plugin, method string, q *question) error {
	for _, p := range plugins {
		var said struct {
			Allow    bool
			Msg, Err string
		}
		ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("no answer in time"))
		err := p.Call(ctx, "AuthZPlugin."+method, q, &said)
		cancel()
		switch {
		case err != nil:
			return &errdefs.Error{Kind: errdefs.Internal, Msg: fmt.Sprintf("plugin %s failed with error: %v", p.Name(), err)}
		case said.Err != "":
			return errdefs.Internalf("plugin %s failed with error: %s", p.Name(), said.Err)
		case !said.Allow:
			return errdefs.Forbiddenf("authorization denied by plugin %s: %s", p.Name(), said.Msg)
		}
	}
	return nil
}
