package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ip shows addresses, links and routes: ip [-4|-6|-o] addr|link|route [show] [dev NAME].
func ip(args []string) int {
	family := ""
	var words []string
	for _, a := range args {
		switch {
		case a == "-4" || a == "-6":
			family = a
		case strings.HasPrefix(a, "-"):
		case a == "show" || a == "list" || a == "ls" || a == "dev":
		default:
			words = append(words, a)
		}
	}
	if len(words) == 0 {
		return fail("ip", errors.New("usage: ip [-4|-6] addr|link|route [show] [dev NAME]"))
	}
	dev := ""
	if len(words) > 1 {
		dev = words[1]
	}
	switch {
	case strings.HasPrefix("address", words[0]):
		return ipLinks(dev, family, true)
	case strings.HasPrefix("link", words[0]):
		return ipLinks(dev, family, false)
	case strings.HasPrefix("route", words[0]):
		return ipRoutes(family)
	}
	return fail("ip", fmt.Errorf("unknown object %q", words[0]))
}

func ipLinks(dev, family string, withAddrs bool) int {
	all, err := net.Interfaces()
	if err != nil {
		return fail("ip", err)
	}
	found := false
	for _, i := range all {
		if dev != "" && i.Name != dev {
			continue
		}
		found = true
		var flags []string
		for _, f := range []struct {
			bit  net.Flags
			name string
		}{{net.FlagLoopback, "LOOPBACK"}, {net.FlagBroadcast, "BROADCAST"}, {net.FlagMulticast, "MULTICAST"}, {net.FlagUp, "UP"}, {net.FlagRunning, "LOWER_UP"}} {
			if i.Flags&f.bit != 0 {
				flags = append(flags, f.name)
			}
		}
		state, kind := "DOWN", "ether"
		if i.Flags&net.FlagRunning != 0 {
			state = "UP"
		}
		if i.Flags&net.FlagLoopback != 0 {
			kind, state = "loopback", "UNKNOWN"
		}
		mac := i.HardwareAddr.String()
		if mac == "" {
			mac = "00:00:00:00:00:00"
		}
		fmt.Printf("%d: %s: <%s> mtu %d state %s\n    link/%s %s\n", i.Index, i.Name, strings.Join(flags, ","), i.MTU, state, kind, mac)
		if !withAddrs {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return fail("ip", err)
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			word, v4 := "inet6", n.IP.To4() != nil
			if v4 {
				word = "inet"
			}
			if family == "-4" && !v4 || family == "-6" && v4 {
				continue
			}
			scope := "global"
			switch {
			case n.IP.IsLoopback():
				scope = "host"
			case n.IP.IsLinkLocalUnicast():
				scope = "link"
			}
			fmt.Printf("    %s %s scope %s %s\n", word, n, scope, i.Name)
		}
	}
	if !found && dev != "" {
		return fail("ip", fmt.Errorf("can't find device '%s'", dev))
	}
	return 0
}

// ipRoutes prints the main tables from /proc/net/route and ipv6_route.
func ipRoutes(family string) int {
	if family != "-6" {
		b, err := os.ReadFile("/proc/net/route")
		if err != nil {
			return fail("ip", err)
		}
		little := func(s string) net.IP {
			v, err := hex.DecodeString(s)
			if err != nil || len(v) != 4 {
				return nil
			}
			slices.Reverse(v)
			return v
		}
		for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			f := strings.Fields(line)
			if i == 0 || len(f) < 8 {
				continue
			}
			dst, gw, mask := little(f[1]), little(f[2]), little(f[7])
			ones, _ := net.IPMask(mask).Size()
			to := fmt.Sprintf("%s/%d", dst, ones)
			if ones == 0 {
				to = "default"
			}
			if !gw.IsUnspecified() {
				to += " via " + gw.String()
			}
			fmt.Printf("%s dev %s\n", to, f[0])
		}
	}
	if family == "-6" {
		b, err := os.ReadFile("/proc/net/ipv6_route")
		if err != nil {
			return 0 // no IPv6
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[9] == "lo" {
				continue
			}
			dst, err := hex.DecodeString(f[0])
			gw, gerr := hex.DecodeString(f[4])
			ones, oerr := strconv.ParseUint(f[1], 16, 8)
			if errors.Join(err, gerr, oerr) != nil {
				continue
			}
			to := fmt.Sprintf("%s/%d", net.IP(dst), ones)
			if ones == 0 {
				to = "default"
			}
			if !net.IP(gw).IsUnspecified() {
				to += " via " + net.IP(gw).String()
			}
			fmt.Printf("%s dev %s\n", to, f[9])
		}
	}
	return 0
}

// nc connects, or listens with -l: nc [-u] [-z] [-w SECONDS] HOST PORT, nc -l [-k] [-u] [-p PORT] [PORT].
func nc(args []string) int {
	set, rest, err := options(args, "lkuzvw:p:n")
	if err != nil {
		return fail("nc", err)
	}
	has := func(c byte) bool { _, ok := set[c]; return ok }
	network := "tcp"
	if has('u') {
		network = "udp"
	}
	var timeout time.Duration
	if has('w') {
		timeout = time.Duration(number(set['w']) * float64(time.Second))
	}
	if has('l') {
		port := set['p']
		if port == "" && len(rest) > 0 {
			port = rest[len(rest)-1]
		}
		return ncListen(network, port, has('k'))
	}
	if len(rest) != 2 {
		return fail("nc", errors.New("usage: nc [-uz] [-w SECONDS] HOST PORT | nc -l [-ku] [-p] PORT"))
	}
	c, err := net.DialTimeout(network, net.JoinHostPort(rest[0], rest[1]), timeout)
	if err != nil {
		return fail("nc", err)
	}
	defer c.Close()
	if has('z') {
		return 0
	}
	if timeout > 0 {
		if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
			return fail("nc", err)
		}
	}
	return splice(c)
}

func ncListen(network, port string, again bool) int {
	if network == "udp" {
		c, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			return fail("nc", err)
		}
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return fail("nc", err)
			}
			if _, err := os.Stdout.Write(buf[:n]); err != nil {
				return fail("nc", err)
			}
			if !again {
				reply, err := io.ReadAll(os.Stdin)
				if err == nil && len(reply) > 0 {
					_, err = c.WriteTo(reply, from)
				}
				if err != nil {
					return fail("nc", err)
				}
				return 0
			}
		}
	}
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return fail("nc", err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return fail("nc", err)
		}
		code := splice(c)
		if err := c.Close(); err != nil || !again {
			return code
		}
	}
}

// splice copies standard input to the peer and the peer to standard output,
// until the peer ends.
func splice(c net.Conn) int {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		if _, err := io.Copy(os.Stdout, c); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
			fail("nc", err)
		}
	})
	go func() {
		_, err := io.Copy(c, os.Stdin)
		if half, ok := c.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			fail("nc", err)
		}
	}()
	wg.Wait()
	return 0
}

func nslookup(args []string) int {
	if len(args) == 0 {
		return fail("nslookup", errors.New("usage: nslookup NAME"))
	}
	addrs, err := net.LookupHost(args[0])
	if err != nil {
		return fail("nslookup", err)
	}
	for _, a := range addrs {
		fmt.Printf("Name:\t%s\nAddress: %s\n", args[0], a)
	}
	return 0
}

// wget fetches http URLs: wget [-q] [-S] [-O FILE] [-T SECONDS] [--spider] URL.
func wget(args []string) int {
	spider := slices.Contains(args, "--spider")
	args = slices.DeleteFunc(args, func(a string) bool { return strings.HasPrefix(a, "--") })
	set, rest, err := options(args, "qSO:T:P:cY:t:")
	if err != nil || len(rest) == 0 {
		return fail("wget", errors.Join(err, errors.New("usage: wget [-q] [-O FILE] [-T SECONDS] URL")))
	}
	_, quiet := set['q']
	timeout := 900 * time.Second
	if t, ok := set['T']; ok {
		timeout = time.Duration(number(t) * float64(time.Second))
	}
	target := rest[0]
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	for range 5 { // redirections
		next, err := fetch(target, timeout, set['O'], quiet, spider)
		if err != nil {
			return fail("wget", err)
		}
		if next == "" {
			return 0
		}
		target = next
	}
	return fail("wget", errors.New("too many redirections"))
}

func fetch(target string, timeout time.Duration, output string, quiet, spider bool) (redirect string, err error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" {
		return "", fmt.Errorf("not an http url: %s", target)
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "80")
	}
	if !quiet {
		fmt.Fprintf(os.Stderr, "Connecting to %s\n", addr)
	}
	c, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	// HTTP/1.0, so that the body is what follows up to the end.
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: wget\r\nConnection: close\r\n\r\n", u.RequestURI(), u.Host); err != nil {
		return "", err
	}
	br := bufio.NewReader(c)
	status, err := br.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("error getting response: %w", err)
	}
	length := int64(-1)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimSpace(line)
		if line == "" {
			break
		}
		k, v, _ := strings.Cut(line, ":")
		switch v = strings.TrimSpace(v); strings.ToLower(k) {
		case "location":
			to, err := u.Parse(v)
			if err != nil {
				return "", err
			}
			redirect = to.String()
		case "content-length":
			if length, err = strconv.ParseInt(v, 10, 64); err != nil {
				return "", err
			}
		}
	}
	fields := strings.SplitN(strings.TrimSpace(status), " ", 2)
	if len(fields) < 2 {
		return "", fmt.Errorf("bad answer %q", status)
	}
	if strings.HasPrefix(fields[1], "3") && redirect != "" {
		return redirect, nil
	}
	if !strings.HasPrefix(fields[1], "2") {
		return "", fmt.Errorf("server returned error: HTTP/1.1 %s", fields[1])
	}
	if spider {
		return "", nil
	}
	if output == "" {
		if output = path.Base(u.Path); output == "/" || output == "." {
			output = "index.html"
		}
	}
	w := os.Stdout
	if output != "-" {
		if w, err = os.Create(output); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
	}
	n, err := io.Copy(w, br)
	if err == nil && length >= 0 && n < length {
		err = fmt.Errorf("connection closed prematurely: %d of %d bytes", n, length)
	}
	return "", err
}

// httpd serves files in the foreground: httpd [-f] [-v] [-p [ADDRESS:]PORT] [-h DIRECTORY].
func httpd(args []string) int {
	set, _, err := options(args, "fvip:h:")
	if err != nil {
		return fail("httpd", err)
	}
	addr, dir := ":80", "."
	if p, ok := set['p']; ok {
		if addr = p; !strings.Contains(p, ":") {
			addr = ":" + p
		}
	}
	if h, ok := set['h']; ok {
		dir = h
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail("httpd", err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fail("httpd", err)
	}
	_, verbose := set['v']
	for {
		c, err := l.Accept()
		if err != nil {
			return fail("httpd", err)
		}
		go func() {
			line, err := answer(c, root)
			if verbose || err != nil {
				fmt.Fprintf(os.Stderr, "%s: %s %v\n", c.RemoteAddr(), line, err)
			}
		}()
	}
}

// answer serves one request of a connection.
func answer(c net.Conn, root *os.Root) (line string, err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	br := bufio.NewReader(c)
	line, err = br.ReadString('\n')
	for err == nil { // headers
		var h string
		if h, err = br.ReadString('\n'); strings.TrimSpace(h) == "" {
			break
		}
	}
	if err != nil {
		return line, err
	}
	line = strings.TrimSpace(line)
	reply := func(status, kind string, length int64, body io.Reader) error {
		if _, err := fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", status, kind, length); err != nil {
			return err
		}
		_, err := io.Copy(c, body)
		return err
	}
	text := func(status, body string) error {
		return reply(status, "text/html; charset=utf-8", int64(len(body)), strings.NewReader(body))
	}
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "GET" && fields[0] != "HEAD" {
		return line, text("400 Bad Request", "bad request\n")
	}
	u, err := url.ParseRequestURI(fields[1])
	if err != nil {
		return line, text("400 Bad Request", "bad request\n")
	}
	name := strings.TrimPrefix(path.Clean("/"+u.Path), "/")
	if name == "" {
		name = "."
	}
	f, err := root.Open(name)
	if err != nil {
		return line, text("404 Not Found", "not found\n")
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return line, err
	}
	if fi.IsDir() {
		if index, err := root.Open(path.Join(name, "index.html")); err == nil {
			defer index.Close()
			if fi, err = index.Stat(); err == nil {
				return line, reply("200 OK", "text/html; charset=utf-8", fi.Size(), index)
			}
		}
		entries, err := f.ReadDir(-1)
		if err != nil {
			return line, err
		}
		var b strings.Builder
		for _, e := range entries {
			n := html.EscapeString(e.Name())
			fmt.Fprintf(&b, "<a href=\"%s\">%s</a><br>\n", n, n)
		}
		return line, text("200 OK", b.String())
	}
	kind := map[string]string{".html": "text/html; charset=utf-8", ".txt": "text/plain; charset=utf-8", ".json": "application/json",
		".css": "text/css", ".js": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml"}[filepath.Ext(name)]
	if kind == "" {
		kind = "application/octet-stream"
	}
	return line, reply("200 OK", kind, fi.Size(), f)
}
