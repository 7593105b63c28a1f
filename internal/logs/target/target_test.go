package target

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)

// packets encodes one message.
func packets(t *testing.T, c *wire.Target, m logs.Message) (all []string) {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	e.Encode(&m, func(p []byte) { all = append(all, string(p)) })
	return all
}

func TestSyslog(t *testing.T) {
	m := logs.Message{Stream: logs.Stdout, Time: at, Line: []byte("text\n")}
	pid := strconv.Itoa(os.Getpid())
	local := at.Local()
	for form, want := range map[string]string{
		"":             "<30>" + local.Format(time.Stamp) + " tag[" + pid + "]: text\n",
		"rfc3164":      "<30>" + local.Format(time.Stamp) + " host tag[" + pid + "]: text\n",
		"rfc5424":      "<30>1 " + local.Format(time.RFC3339) + " host tag " + pid + " tag - text\n",
		"rfc5424micro": "<30>1 " + local.Format("2006-01-02T15:04:05.000000Z07:00") + " host tag " + pid + " tag - text\n",
	} {
		got := packets(t, &wire.Target{Driver: "syslog", Format: form, Facility: 3, Host: "host", Tag: "tag"}, m)
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", form, got, want)
		}
	}
}

func TestJournald(t *testing.T) {
	got := packets(t, &wire.Target{Driver: "journald", Container: "0123456789abcdef", Fields: map[string]string{"A": "x\ny"}},
		logs.Message{Stream: logs.Stderr, Time: at, Line: []byte("part"), Part: logs.Part{ID: "i", Ordinal: 2}})
	long := "A\n" + string(binary.LittleEndian.AppendUint64(nil, 3)) + "x\ny\n"
	for _, want := range []string{long, "CONTAINER_ID=0123456789ab\n", "PRIORITY=3\n", "SYSLOG_TIMESTAMP=2026-01-02T03:04:05.678901234Z\n",
		"CONTAINER_PARTIAL_MESSAGE=true\n", "CONTAINER_PARTIAL_ORDINAL=2\n", "CONTAINER_PARTIAL_LAST=false\n", "MESSAGE=part\n"} {
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestGELF(t *testing.T) {
	m := logs.Message{Stream: logs.Stdout, Time: at, Line: []byte("a \"b\"\xff\n")}
	got := packets(t, &wire.Target{Driver: "gelf", Network: "tcp", Host: "h", Fields: map[string]string{"_k": "v"}}, m)
	const want = `{"version":"1.1","host":"h","_k":"v","timestamp":1767323045.678,"level":6,"short_message":"a \"b\"\ufffd"}` + "\x00"
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
	got = packets(t, &wire.Target{Driver: "gelf", Network: "udp", Compression: "zlib", Level: 9}, m)
	z, err := zlib.NewReader(strings.NewReader(got[0]))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil || !json.Valid(raw) {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestUnknown(t *testing.T) {
	if _, err := New(&wire.Target{Driver: "awslogs"}); errdefs.KindOf(err) != errdefs.NotImplemented {
		t.Error(err)
	}
}

func TestAcks(t *testing.T) {
	f := newFluentd(&wire.Target{Ack: true})
	one := []byte("\x81\xa3ack\xa2xy")
	two := append(bytes.Clone(one), "\x81\xa3ack\xd9\x03abc"...)
	for n := range len(two) + 1 {
		want, used := 0, 0
		if n >= len(one) {
			want, used = 1, len(one)
		}
		if n == len(two) {
			want, used = 2, n
		}
		if p, u, ok := f.Acks(two[:n]); p != want || u != used || !ok {
			t.Errorf("%d bytes: %d packets, %d used, %v", n, p, u, ok)
		}
	}
	if _, _, ok := f.Acks([]byte("HTTP/1.1 400")); ok {
		t.Error("another protocol is understood")
	}
}

func FuzzAcks(f *testing.F) {
	f.Add([]byte("\x81\xa3ack\xa2xy"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		packets, used, _ := newFluentd(&wire.Target{Ack: true}).Acks(sent)
		if used > len(sent) || packets*6 > used {
			t.Errorf("%d packets in %d bytes", packets, used)
		}
	})
}
