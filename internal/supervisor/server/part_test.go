package server

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"lade/internal/supervisor/wire"
)

// TestExecParts: the end of an exec's stream comes after the daemon has noted
// its exit, and comes even if the daemon never does.
func TestExecParts(t *testing.T) {
	e := inProcess(t, nil)
	id, _ := e.start("exec sleep 1000", nil)
	for name, noted := range map[string]bool{"e1": true, "e2": false} {
		client, stream := pair(t)
		if _, err := e.exec(id, name, "exit 9", func(m *wire.Exec) {
			m.Stdio = wire.Stdio{Stdout: true}
			m.Attach = []wire.Attach{{Stream: 1, Stdout: true}}
		}, stream); err != nil {
			t.Fatal(err)
		}
		stream.Close()
		if x := e.events.exit(id, name); x.Code != 9 {
			t.Errorf("exit %+v, want code 9", x)
		}
		early := partAfter / 10
		if err := client.SetReadDeadline(time.Now().Add(early)); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("before the exit was noted: %d bytes, %v", n, err)
		}
		begin := time.Now()
		if noted {
			if err := e.client.Forget(t.Context(), &wire.Forget{ID: id, ExecID: name}); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.SetReadDeadline(time.Now().Add(10 * partAfter)); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after the exit was noted: %d bytes, %v", n, err)
		}
		if took := time.Since(begin); noted && took > partAfter/2 {
			t.Errorf("the end took %v", took)
		}
	}
}
