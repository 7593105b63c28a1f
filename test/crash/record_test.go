package crash

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"lade/internal/store"
	"lade/test/harness"
)

// TestDamagedRecord: containers whose records cannot be read are reported, and
// keep all that they have, running or not; the others are served. Where a record
// can be read again, the container is as it was.
func TestDamagedRecord(t *testing.T) {
	e := harness.Start(t, harness.Apart()...)
	img := e.Import()
	e.Run("run", "-d", "--name", "runs", img, "sleep", "1000")
	e.Run("run", "--name", "ended", img, "sh", "-c", "echo kept >/file")
	e.Run("run", "-d", "--name", "other", img, "sleep", "1000")
	pid := inspect(e, "runs", ".State.Pid")
	ids := []string{inspect(e, "runs", ".Id"), inspect(e, "ended", ".Id")}
	e.Kill()
	good := swap(t, e, ids, map[string][]byte{ids[0]: []byte(`{"id":`), ids[1]: []byte(`{"id":"` + ids[1] + `"}`)})
	for range 2 { // also when the supervisor is another one
		e.Launch()
		if got := e.Run("ps", "-a", "--format", "{{.Names}}"); got != "other" {
			t.Errorf("containers: %s", got)
		}
		if got := e.Run("exec", "other", "echo", "hi"); got != "hi" {
			t.Errorf("exec: %q", got)
		}
		killSupervisor(t, e)
		if got := e.Run("exec", "other", "echo", "hi"); got != "hi" || !alive(pid) {
			t.Errorf("exec: %q; the one that runs is there: %v", got, alive(pid))
		}
		e.Kill()
	}
	log, err := os.ReadFile(e.Dir + "/laded.log")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if !strings.Contains(string(log), "a container cannot be shown") || !strings.Contains(string(log), id) {
			t.Errorf("the log says nothing of %s", id)
		}
	}
	swap(t, e, ids, good)
	e.Launch()
	wants(t, e, "runs", ".State.Pid", pid)
	wants(t, e, "runs", ".State.Status", "running")
	if got := e.Run("exec", "runs", "echo", "hi"); got != "hi" {
		t.Errorf("exec: %q", got)
	}
	if got := e.Run("cp", "ended:/file", "-"); !strings.Contains(got, "kept") {
		t.Errorf("the files of the one that had ended: %q", got)
	}
}

// swap puts other records of containers in the place of those that there are,
// which it returns. The daemon must not run.
func swap(t *testing.T, e *harness.Engine, ids []string, with map[string][]byte) map[string][]byte {
	t.Helper()
	s, err := store.Open(e.Dir+"/data/records", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	was := map[string][]byte{}
	var b store.Batch
	for id, raw := range s.Walk("containers") {
		if with[id] != nil {
			was[id] = append([]byte(nil), raw...)
			b.Put("containers", id, with[id])
		}
	}
	if len(was) != len(ids) {
		t.Errorf("%d of %d records are there", len(was), len(ids))
	}
	if err := s.Commit(t.Context(), &b); err != nil {
		t.Errorf("put the records of an earlier engine: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close the store: %v", err)
	}
	return was
}
