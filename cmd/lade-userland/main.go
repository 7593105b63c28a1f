// Command lade-userland is the whole user land of the built-in image: one
// static program that is sh, ls, ps, ip, wget and the rest, chosen by the name
// it is called by, as in busybox(1). It runs inside containers only.
//
// The shell is mvdan.cc/sh with line editing, real exec and traps for signals;
// cat, cp, find, ls, tar and the like come from u-root; the others are small
// and know the options that scripts use, not all there are.
//
// Sources: POSIX.1-2024, Shell & Utilities, for options and exit statuses;
// proc(5), ip(8), ps(1).
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/u-root/u-root/pkg/core"
	"github.com/u-root/u-root/pkg/core/base64"
	"github.com/u-root/u-root/pkg/core/cat"
	"github.com/u-root/u-root/pkg/core/chmod"
	"github.com/u-root/u-root/pkg/core/cp"
	"github.com/u-root/u-root/pkg/core/find"
	"github.com/u-root/u-root/pkg/core/ls"
	"github.com/u-root/u-root/pkg/core/mkdir"
	"github.com/u-root/u-root/pkg/core/mktemp"
	"github.com/u-root/u-root/pkg/core/mv"
	"github.com/u-root/u-root/pkg/core/rm"
	"github.com/u-root/u-root/pkg/core/shasum"
	"github.com/u-root/u-root/pkg/core/tar"
	"github.com/u-root/u-root/pkg/core/touch"
	"github.com/u-root/u-root/pkg/core/xargs"
)

// command runs with its arguments, without its name, and returns an exit status.
type command func(args []string) int

// commands returns all by name.
func commands() map[string]command {
	return map[string]command{
		"sh": shell, "ash": shell, "hello": hello,
		"[": bracket, "test": viaShell("test"), "printf": viaShell("printf"),
		"basename": basename, "cut": cut, "dirname": dirname, "echo": echo, "false": status(1), "grep": grep, "head": head,
		"seq": seq, "sort": sortLines, "tail": tail, "tee": tee, "tr": tr, "true": status(0), "uniq": uniq, "wc": wc, "yes": yes, "zcat": zcat,
		"chown": chown, "dd": dd, "df": df, "du": du, "gunzip": gunzip, "gzip": gzipFiles, "ln": ln, "mkfifo": mkfifo, "pwd": pwd, "readlink": readlink,
		"realpath": realpath, "rmdir": rmdir, "stat": stat, "sync": syncDisks, "truncate": truncate,
		"date": date, "env": env, "free": free, "hostname": hostname, "id": id, "kill": kill, "mount": mount, "nproc": nproc,
		"printenv": printenv, "ps": ps, "sleep": sleep, "tty": tty, "umount": umount, "uname": uname, "uptime": uptime,
		"which": which, "whoami": whoami,
		"httpd": httpd, "ip": ip, "nc": nc, "nslookup": nslookup, "wget": wget,
		"base64": fromCore("base64", base64.New), "cat": fromCore("cat", cat.New), "chmod": silent("chmod", chmod.New),
		"cp": silent("cp", cp.New), "find": fromCore("find", find.New),
		"ls": fromCore("ls", ls.New), "mkdir": silent("mkdir", mkdir.New), "mktemp": fromCore("mktemp", mktemp.New),
		"mv": fromCore("mv", mv.New), "rm": fromCore("rm", rm.New),
		"shasum": fromCore("shasum", shasum.New), "sha256sum": fromCore("sha256sum", shasum.New, "-a", "256"),
		"tar": fromCore("tar", tar.New), "touch": fromCore("touch", touch.New), "xargs": fromCore("xargs", xargs.New),
	}
}

// fromCore adapts a command of u-root.
func fromCore(name string, make func() core.Command, before ...string) command {
	return func(args []string) int {
		err := make().Run(append(slices.Clone(before), args...)...)
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		if err != nil {
			return fail(name, err)
		}
		return 0
	}
}

// silent adapts a command of u-root that goes on after an error, and does not
// return it: what it wrote to standard error is the sign of one.
func silent(name string, make func() core.Command) command {
	return func(args []string) int {
		c, stderr := make(), &counter{w: os.Stderr}
		c.SetIO(os.Stdin, os.Stdout, stderr)
		err := c.Run(args...)
		if err != nil && !errors.Is(err, flag.ErrHelp) {
			return fail(name, err)
		}
		if err == nil && stderr.n > 0 {
			return 1
		}
		return 0
	}
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return c.w.Write(p)
}

// fail prints an error and returns 1.
func fail(name string, err error) int {
	msg := strings.TrimPrefix(err.Error(), name+": ")
	fmt.Fprintf(os.Stderr, "%s: %s\n", name, msg)
	return 1
}

func main() {
	name, args := path.Base(os.Args[0]), os.Args[1:]
	name = strings.TrimPrefix(name, "-") // a login shell
	all := commands()
	run := all[name]
	if run == nil && len(args) > 0 { // called as itself
		name, args = args[0], args[1:]
		run = all[name]
	}
	if run == nil {
		names := make([]string, 0, len(all))
		for n := range all {
			names = append(names, n)
		}
		slices.Sort(names)
		fmt.Fprintln(os.Stdout, strings.Join(names, "\n"))
		if name == "--list" {
			return
		}
		os.Exit(127)
	}
	if os.Getpid() == 1 && name != "sh" && name != "ash" {
		dieAsInit()
	}
	os.Exit(run(args))
}

// dieAsInit makes the first process of a container end by the usual signals:
// the kernel ignores those that process 1 has no handler for
// (pid_namespaces(7)).
func dieAsInit() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		if s, ok := (<-c).(syscall.Signal); ok {
			os.Exit(128 + int(s))
		}
	}()
}

// options reads single-letter options in the way of getopt(3): spec holds the
// letters, one that takes a value followed by ":". Reading ends at "--" or the
// first other argument.
func options(args []string, spec string) (map[byte]string, []string, error) {
	set := map[byte]string{}
	for len(args) > 0 {
		a := args[0]
		if len(a) < 2 || a[0] != '-' {
			break
		}
		args = args[1:]
		if a == "--" {
			break
		}
		for i := 1; i < len(a); i++ {
			at := strings.IndexByte(spec, a[i])
			if at < 0 || a[i] == ':' {
				return nil, nil, fmt.Errorf("unknown option -%c", a[i])
			}
			if at+1 == len(spec) || spec[at+1] != ':' {
				set[a[i]] = "yes"
				continue
			}
			switch {
			case i+1 < len(a):
				set[a[i]] = a[i+1:]
			case len(args) > 0:
				set[a[i]], args = args[0], args[1:]
			default:
				return nil, nil, fmt.Errorf("option -%c needs a value", a[i])
			}
			break
		}
	}
	return set, args, nil
}
