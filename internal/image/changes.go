package image

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// Change applies Dockerfile instructions, as import and commit take them, to a
// configuration: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD
// STOPSIGNAL USER VOLUME WORKDIR. Maps and slices of the old configuration are
// not modified. Errors: Invalid, in Docker's words.
//
// Source: Dockerfile reference; docker-commit(1), "--change".
func Change(c *dockerspec.DockerOCIImageConfig, instructions []string) error {
	command := false // there is a CMD among them
	for _, line := range instructions {
		word, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		args = strings.TrimSpace(args)
		if word == "" {
			continue
		}
		if args == "" {
			return errdefs.Invalidf("%s requires at least one argument", strings.ToUpper(word))
		}
		word = strings.ToUpper(word)
		command = command || word == "CMD"
		if word == "ENTRYPOINT" && !command {
			c.Cmd = nil // it was meant for another entry point
		}
		if err := change(c, word, args); err != nil {
			return err
		}
	}
	return nil
}

func change(c *dockerspec.DockerOCIImageConfig, word, args string) error {
	switch word {
	case "EXPOSE", "VOLUME", "USER", "WORKDIR", "STOPSIGNAL":
		var err error
		if args, err = expand(args, c.Env); err != nil {
			return err
		}
	}
	switch word {
	case "CMD":
		c.Cmd = command(args, c.Shell)
	case "ENTRYPOINT":
		c.Entrypoint = command(args, c.Shell)
	case "ENV":
		return pairs(word, args, c.Env, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	case "LABEL":
		c.Labels = maps.Clone(c.Labels)
		return pairs(word, args, c.Env, func(k, v string) { put(&c.Labels, k, v) })
	case "EXPOSE":
		c.ExposedPorts = maps.Clone(c.ExposedPorts)
		for p := range strings.FieldsSeq(args) {
			port, err := exposed(p)
			if err != nil {
				return err
			}
			put(&c.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		c.Volumes = maps.Clone(c.Volumes)
		list, ok := jsonList(args)
		if !ok {
			list = strings.Fields(args)
		}
		for _, v := range list {
			if v == "" {
				return errdefs.Invalidf("VOLUME specified can not be an empty string")
			}
			put(&c.Volumes, v, struct{}{})
		}
	case "USER":
		c.User = args
	case "WORKDIR":
		if !strings.HasPrefix(args, "/") {
			args = strings.TrimRight(c.WorkingDir, "/") + "/" + args
		}
		c.WorkingDir = args
	case "STOPSIGNAL":
		c.StopSignal = args
	case "ONBUILD":
		c.OnBuild = append(slices.Clone(c.OnBuild), args)
	case "HEALTHCHECK":
		return healthcheck(c, args)
	default:
		return errdefs.Invalidf("%s is not a valid change command", strings.ToLower(word))
	}
	return nil
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

func jsonList(s string) ([]string, bool) {
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	var list []string
	return list, json.Unmarshal([]byte(s), &list) == nil
}

// command reads the exec form, a JSON list, or else the shell form.
func command(args string, shell []string) []string {
	if list, ok := jsonList(args); ok {
		return list
	}
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), args)
}

func setEnv(env []string, k, v string) []string {
	env = slices.Clone(env)
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); name == k {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

// pairs reads "k=v k2='v 2'" or the old form "k the rest".
func pairs(word, args string, env []string, set func(k, v string)) error {
	words, err := fields(args, env)
	if err != nil {
		return errdefs.Invalidf("%s: %w", word, err)
	}
	if first, _, ok := strings.Cut(words[0], "="); !ok || first == "" {
		k, v, _ := strings.Cut(args, " ")
		if ok || strings.TrimSpace(v) == "" {
			return errdefs.Invalidf("%s must have two arguments", word)
		}
		if v, err = expand(strings.TrimSpace(v), env); err != nil {
			return err
		}
		set(k, v)
		return nil
	}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return errdefs.Invalidf("Syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		set(k, v)
	}
	return nil
}

// fields splits at blanks outside of quotes, removes quotes and escapes, and
// replaces what refers to variables.
func fields(s string, env []string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote byte
	started := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			started = true
		case c == '$' && quote != '\'':
			value, n, err := variable(s[i:], env)
			if err != nil {
				return nil, err
			}
			word.WriteString(value)
			i += n - 1
			started = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, started = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if started {
				out = append(out, word.String())
				word.Reset()
				started = false
			}
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if quote != 0 {
		return nil, errdefs.Invalidf("unexpected end of statement while looking for matching %c", quote)
	}
	if started {
		out = append(out, word.String())
	}
	if len(out) == 0 {
		return nil, errdefs.Invalidf("no value")
	}
	return out, nil
}

func exposed(s string) (string, error) {
	port, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	from, to, ranged := strings.Cut(port, "-")
	for _, p := range []string{from, to} {
		if p == "" && !ranged {
			continue
		}
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return "", errdefs.Invalidf("invalid containerPort: %s", port)
		}
	}
	if port == "" || proto != "tcp" && proto != "udp" && proto != "sctp" {
		return "", errdefs.Invalidf("invalid proto: %s", proto)
	}
	return port + "/" + proto, nil
}

// healthcheck reads "NONE" or "[--flag=value…] CMD command".
func healthcheck(c *dockerspec.DockerOCIImageConfig, args string) error {
	if strings.EqualFold(args, "NONE") {
		c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}}
		return nil
	}
	h := &dockerspec.HealthcheckConfig{}
	times := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout,
		"start-period": &h.StartPeriod, "start-interval": &h.StartInterval}
	for strings.HasPrefix(args, "--") {
		flag, rest, _ := strings.Cut(args, " ")
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		args = strings.TrimSpace(rest)
		var err error
		switch t := times[name]; {
		case t != nil:
			*t, err = time.ParseDuration(value)
		case name == "retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			return errdefs.Invalidf("unknown flag: %s", name)
		}
		if err != nil || h.Retries < 0 {
			return errdefs.Invalidf("HEALTHCHECK: invalid value of --%s: %q", name, value)
		}
	}
	word, cmd, _ := strings.Cut(args, " ")
	cmd = strings.TrimSpace(cmd)
	if !strings.EqualFold(word, "CMD") {
		return errdefs.Invalidf("Unknown type %q in HEALTHCHECK (try CMD)", word)
	}
	if cmd == "" {
		return errdefs.Invalidf("Missing command after HEALTHCHECK CMD")
	}
	if list, ok := jsonList(cmd); ok {
		h.Test = append([]string{"CMD"}, list...)
	} else {
		h.Test = []string{"CMD-SHELL", cmd}
	}
	c.Healthcheck = h
	return nil
}
