package container

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/moby/moby/api/pkg/stdcopy"
	moby "github.com/moby/moby/client"

	"lade/internal/cli/app"
	"lade/internal/cli/terminal"
)

// manyLogs prints the logs of several containers together, each line after its
// container's name. What is there already is in the order of its times; what is
// followed comes as it comes.
type manyLogs struct {
	api     *moby.Client
	out     *prefixed
	options moby.ContainerLogsOptions
	stamps  bool // the user wants the times
	only    *regexp.Regexp
}

// logLine is a line of a container: with the time at which it was written, which
// sorts as a text.
type logLine struct {
	at, text []byte
	stderr   bool
	err      error
}

// run prints the logs of the named containers until they end. A container that
// is not there is an error before anything is printed.
func (m *manyLogs) run(ctx context.Context, names []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.options.Timestamps = true
	open := make([]func(context.Context) <-chan logLine, len(names))
	for i, n := range names {
		c, err := m.api.ContainerInspect(ctx, n, moby.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		open[i] = func(ctx context.Context) <-chan logLine { return m.read(ctx, c.Container.ID, c.Container.Config.Tty) }
	}
	sources := make([]<-chan logLine, len(names))
	for i := range open {
		sources[i] = open[i](ctx)
	}
	if m.options.Follow {
		return m.follow(sources)
	}
	return m.merge(sources)
}

// merge prints what the sources have, oldest line first.
func (m *manyLogs) merge(sources []<-chan logLine) error {
	var errs []error
	heads := make([]*logLine, len(sources))
	next := func(i int) {
		heads[i] = nil
		if l, ok := <-sources[i]; ok {
			heads[i] = &l
		}
	}
	for i := range sources {
		next(i)
	}
	for {
		first := -1
		for i, h := range heads {
			if h != nil && (first < 0 || h.err != nil || bytes.Compare(h.at, heads[first].at) < 0 && heads[first].err == nil) {
				first = i
			}
		}
		if first < 0 {
			return errors.Join(errs...)
		}
		if l := heads[first]; l.err != nil {
			errs = append(errs, l.err)
		} else if err := m.print(first, *l); err != nil {
			return err
		}
		next(first)
	}
}

// follow prints lines as they come until all sources end.
func (m *manyLogs) follow(sources []<-chan logLine) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() {
			for l := range s {
				mu.Lock()
				err := l.err
				if err == nil {
					err = m.print(i, l)
				}
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// print writes a line that matches.
func (m *manyLogs) print(i int, l logLine) error {
	if m.only != nil && !m.only.Match(l.text) {
		return nil
	}
	at := ""
	if m.stamps {
		at = string(l.at) + " "
	}
	return m.out.print(i, l.stderr, at+string(l.text))
}

// read delivers a container's lines until they end, or ctx does.
func (m *manyLogs) read(ctx context.Context, id string, tty bool) <-chan logLine {
	lines := make(chan logLine)
	send := func(l logLine) error {
		select {
		case lines <- l:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	go func() {
		defer close(lines)
		body, err := m.api.ContainerLogs(ctx, id, m.options)
		if err != nil {
			_ = send(logLine{err: err})
			return
		}
		defer body.Close()
		out, errOut := &lineWriter{send: send}, &lineWriter{send: send, stderr: true}
		if tty {
			_, err = io.Copy(out, bufio.NewReader(body))
		} else {
			_, err = stdcopy.StdCopy(out, errOut, body)
		}
		if err = errors.Join(err, out.end(), errOut.end()); err != nil && ctx.Err() == nil {
			_ = send(logLine{err: err})
		}
	}()
	return lines
}

// lineWriter cuts what is written into lines.
type lineWriter struct {
	send   func(logLine) error
	stderr bool
	rest   []byte
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		n := bytes.IndexByte(w.rest, '\n')
		if n < 0 {
			return len(p), nil
		}
		if err := w.pass(w.rest[:n]); err != nil {
			return 0, err
		}
		w.rest = w.rest[n+1:]
	}
}

// end passes a last line without newline on.
func (w *lineWriter) end() error {
	if len(w.rest) == 0 {
		return nil
	}
	return w.pass(w.rest)
}

func (w *lineWriter) pass(line []byte) error {
	at, text, _ := bytes.Cut(bytes.TrimRight(line, "\r"), []byte{' '})
	return w.send(logLine{at: bytes.Clone(at), text: bytes.Clone(text), stderr: w.stderr})
}

// prefixed prints lines after names, in colours where people see them.
type prefixed struct {
	e      *app.Env
	names  []string
	colour bool
}

func newPrefixed(e *app.Env, names []string) *prefixed {
	width := 0
	for _, n := range names {
		width = max(width, len(n))
	}
	p := &prefixed{e: e, colour: terminal.Colours(e.Out)}
	for _, n := range names {
		p.names = append(p.names, n+strings.Repeat(" ", width-len(n)))
	}
	return p
}

// palette are the colours of names: SGR codes that dark and light terminals show.
func palette() []int { return []int{36, 33, 32, 35, 34, 96, 93, 92, 95, 94} }

func (p *prefixed) print(i int, stderr bool, line string) error {
	w := io.Writer(p.e.Out)
	if stderr {
		w = p.e.Err
	}
	name := p.names[i] + " |"
	if p.colour {
		name = fmt.Sprintf("\x1b[%dm%s\x1b[0m", palette()[i%len(palette())], name)
	}
	_, err := fmt.Fprintln(w, name, line)
	return err
}
