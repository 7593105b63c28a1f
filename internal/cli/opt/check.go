package opt

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"regexp"
	"strings"
)

// Env checks an environment variable: NAME=value, or NAME, which takes the
// client's value if it has one.
func Env(v string) (string, error) {
	k, _, ok := strings.Cut(v, "=")
	if k == "" {
		return "", errors.New("invalid environment variable: " + v)
	}
	if ok {
		return v, nil
	}
	if val, set := os.LookupEnv(k); set {
		return k + "=" + val, nil
	}
	return v, nil
}

// Label checks key[=value].
func Label(v string) (string, error) {
	key, _, _ := strings.Cut(v, "=")
	key = strings.TrimLeft(key, " \t")
	if key == "" {
		return "", fmt.Errorf("invalid label '%s': empty name", v)
	}
	if strings.ContainsAny(key, " \t") {
		return "", fmt.Errorf("label '%s' contains whitespaces", key)
	}
	return v, nil
}

// IP checks an address and returns its usual form.
func IP(v string) (string, error) {
	if ip := net.ParseIP(strings.TrimSpace(v)); ip != nil {
		return ip.String(), nil
	}
	return "", fmt.Errorf("IP address is not correctly formatted: %s", v)
}

// DNSSearch checks a search domain; "." stands for none.
func DNSSearch(v string) (string, error) {
	if v = strings.Trim(v, " "); v == "." {
		return v, nil
	}
	if regexp.MustCompile(`[a-zA-Z]`).MatchString(v) {
		const label = `[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9\-]*[a-zA-Z0-9]`
		m := regexp.MustCompile(`^(:?(:?` + label + `)(:?\.(:?` + label + `))*)\.?\s*$`).FindStringSubmatch(v)
		if len(m) > 0 && len(m[1]) < 255 {
			return m[1], nil
		}
	}
	return "", fmt.Errorf("%s is not a valid domain", v)
}

// ExtraHost checks name:ip or name=ip and returns name:ip without brackets.
func ExtraHost(v string) (string, error) {
	k, ip, ok := strings.Cut(v, "=")
	if !ok {
		k, ip, ok = strings.Cut(v, ":")
	}
	if !ok || k == "" || strings.Contains(k, ":") {
		return "", fmt.Errorf("bad format for add-host: %q", v)
	}
	if ip != "host-gateway" {
		if len(ip) > 2 && ip[0] == '[' && ip[len(ip)-1] == ']' {
			ip = ip[1 : len(ip)-1]
		}
		if _, err := IP(ip); err != nil {
			return "", fmt.Errorf("invalid IP address in add-host: %q", ip)
		}
	}
	return k + ":" + ip, nil
}

// Sysctl checks that a parameter is one of a namespace's own.
func Sysctl(v string) (string, error) {
	k, _, ok := strings.Cut(v, "=")
	if ok {
		switch k {
		case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
			"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
			return v, nil
		}
		if strings.HasPrefix(k, "net.") || strings.HasPrefix(k, "fs.mqueue.") {
			return v, nil
		}
	}
	return "", fmt.Errorf("sysctl '%s' is not allowed", v)
}

// Link checks container[:alias].
func Link(v string) (string, error) {
	if v == "" {
		return v, errors.New("empty string specified for links")
	}
	if strings.Count(v, ":") > 1 {
		return v, errors.New("bad format for links: " + v)
	}
	return v, nil
}

// Attach checks the name of a standard stream.
func Attach(v string) (string, error) {
	switch s := strings.ToLower(v); s {
	case "stdin", "stdout", "stderr":
		return s, nil
	}
	return v, errors.New("valid streams are STDIN, STDOUT and STDERR")
}

// DeviceRule checks a device cgroup rule: "type major:minor mode".
func DeviceRule(v string) (string, error) {
	if regexp.MustCompile(`^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`).MatchString(v) {
		return v, nil
	}
	return v, fmt.Errorf("invalid device cgroup format '%s'", v)
}

// DeviceMode reports whether mode is made of r, w and m, each at most once.
func DeviceMode(mode string) bool {
	if mode == "" {
		return false
	}
	for i, c := range mode {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(mode[:i], c) {
			return false
		}
	}
	return true
}

// Device parses host[:container][:mode].
func Device(v string) (host, ctr, mode string, err error) {
	parts := strings.Split(v, ":")
	if len(parts) > 3 || parts[0] == "" {
		return "", "", "", fmt.Errorf("bad format for path: %s", v)
	}
	host, mode = parts[0], "rwm"
	switch len(parts) {
	case 1:
		host = path.Clean(host)
		ctr = host
	case 2:
		if DeviceMode(parts[1]) {
			host, mode = path.Clean(host), parts[1]
			ctr = host
		} else {
			ctr = path.Clean(parts[1])
		}
	case 3:
		ctr, mode = parts[1], parts[2]
		if !DeviceMode(mode) {
			return "", "", "", fmt.Errorf("bad mode specified: %s", mode)
		}
	}
	if !path.IsAbs(ctr) {
		return "", "", "", fmt.Errorf("%s is not an absolute path", ctr)
	}
	return host, ctr, mode, nil
}
