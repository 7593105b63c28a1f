package proc

import (
	"os"
	"testing"
	"time"

	"lade/internal/errdefs"
)

func TestRead(t *testing.T) {
	p, err := Read(os.Getpid())
	if err != nil || p.PPid != os.Getppid() || len(p.Cmdline) == 0 || p.Cmdline[0] != os.Args[0] || p.Start == 0 {
		t.Errorf("Read(self) = %+v, %v", p, err)
	}
	if _, err := Read(1 << 30); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("Read(no process) = %v", err)
	}
	p, err = parseStat([]byte("7 (a) b (c)) S 1 7 7 34816 7 0 0 0 0 0 12 30 0 0 20 0 1 0 100 0 0"))
	if err != nil || p.Command != "a) b (c)" || p.TTY != 34816 || p.CPU != 420*time.Millisecond || p.Start != time.Second {
		t.Errorf("parseStat = %+v, %v", p, err)
	}
}

func TestMachine(t *testing.T) {
	total, cpus, err := TotalCPU()
	if err != nil || total <= 0 || cpus < 1 {
		t.Errorf("TotalCPU = %v, %d, %v", total, cpus, err)
	}
	if b, err := BootTime(); err != nil || time.Since(b) <= 0 {
		t.Errorf("BootTime = %v, %v", b, err)
	}
}
