package engine

import (
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strings"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// defaultDetach is ctrl-p ctrl-q.
var defaultDetach = [...]byte{16, 17}

// ContainerAttach connects a client with a container's streams: what was
// logged, if asked, then live until the process ends or the client leaves. The
// stream is handed to the supervisor, so it outlives this process. It returns
// when the stream was handed over. Errors before the connection is taken over:
// NotFound, Conflict for a paused or restarting container, Invalid for bad
// detach keys.
func (e *Engine) ContainerAttach(ctx context.Context, name string, o AttachOptions) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	keys, err := detachKeys(o.DetachKeys)
	if err != nil {
		return err
	}
	r := a.View()
	switch r.State {
	case container.Paused:
		return errdefs.Conflictf("container %s is paused, unpause the container before attach", r.ID)
	case container.Restarting:
		return errdefs.Conflictf("container %s is restarting, wait until the container is running", r.ID)
	case container.Removing, container.Dead:
		return errdefs.Conflictf("container %s is marked for removal and cannot be attached", r.ID)
	}
	open := func() (container.Stream, error) {
		conn, err := o.Hijack(r.Config.Tty)
		if err != nil {
			return container.Stream{}, err
		}
		if o.Logs {
			if err := e.replay(r, conn.File, o); err != nil {
				conn.File.Close()
				return container.Stream{}, err
			}
		}
		return container.Stream{
			File: conn.File, Early: conn.Early, Stdin: o.Stdin && r.Config.OpenStdin, Stdout: o.Stdout, Stderr: o.Stderr, DetachKeys: keys,
		}, nil
	}
	if o.Stream && (!o.Logs || r.StartedAt.IsZero()) {
		return a.Attach(context.WithoutCancel(ctx), open)
	}
	// A client may take the log as slowly as it likes: the actor does not wait.
	s, err := open()
	if err != nil {
		return err
	}
	if !o.Stream {
		return s.File.Close()
	}
	taken := false
	err = a.Attach(context.WithoutCancel(ctx), func() (container.Stream, error) { taken = true; return s, nil })
	if !taken {
		s.File.Close()
	}
	return err
}

// replay writes what was logged to a client.
func (e *Engine) replay(r *container.Record, to io.Writer, o AttachOptions) error {
	path, form, ok := e.logFile(r)
	if !ok {
		return nil
	}
	for m, err := range logs.Open(path, logs.ReadOptions{Format: form, Tail: -1}) {
		if err != nil {
			return err
		}
		if m.Stream == logs.Stdout && !o.Stdout || m.Stream == logs.Stderr && !o.Stderr {
			continue
		}
		if !r.Config.Tty {
			var h [8]byte
			h[0] = byte(m.Stream)
			binary.BigEndian.PutUint32(h[4:], uint32(len(m.Line)))
			if _, err := to.Write(h[:]); err != nil {
				return err
			}
		}
		if _, err := to.Write(m.Line); err != nil {
			return err
		}
	}
	return nil
}

// Attach implements container.Host.
func (e *host) Attach(ctx context.Context, r *container.Record, s container.Stream) error {
	defer s.File.Close()
	w := wireAttach(s, 1)
	w.ID = r.ID
	return e.sup.attach(ctx, &w, s.File)
}

func wireAttach(s container.Stream, fd wire.FD) wire.Attach {
	return wire.Attach{Stream: fd, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Early: s.Early, DetachKeys: s.DetachKeys}
}

// detachKeys reads "ctrl-p,ctrl-q" or single characters, separated by commas.
// Empty means the default.
func detachKeys(s string) ([]byte, error) {
	if s == "" {
		return slices.Clone(defaultDetach[:]), nil
	}
	var keys []byte
	for k := range strings.SplitSeq(s, ",") {
		ctrl, isCtrl := strings.CutPrefix(k, "ctrl-")
		switch {
		case len(k) == 1:
			keys = append(keys, k[0])
		case isCtrl && len(ctrl) == 1 && (ctrl[0] >= 'a' && ctrl[0] <= 'z' || strings.ContainsRune(`@[\]^_`, rune(ctrl[0]))):
			keys = append(keys, ctrl[0]&0x1f)
		case strings.EqualFold(k, "DEL"):
			keys = append(keys, 127)
		default:
			return nil, errdefs.Invalidf("Invalid detach keys (%s) provided: Unknown character: '%s'", s, k)
		}
	}
	return keys, nil
}
