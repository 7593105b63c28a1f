package caps

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	// The default set of Docker, whose value is known from /proc/self/status.
	docker := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP"}
	s, unknown := Parse(append(slices.Clone(docker), "CAP_NEWER"))
	if s != 0xa80425fb || !slices.Equal(unknown, []string{"CAP_NEWER"}) {
		t.Errorf("%x %v", uint64(s), unknown)
	}
	if got := s.Names(); !slices.Equal(got, docker) {
		t.Errorf("Names() = %v", got)
	}
	if s.Has(21) || !s.Has(0) {
		t.Error("Has")
	}
}

func TestHost(t *testing.T) {
	last, err := Last()
	if err != nil || last < 37 {
		t.Errorf("Last() = %d, %v", last, err)
	}
	if _, err := Permitted(); err != nil {
		t.Error(err)
	}
}
