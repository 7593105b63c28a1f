package target

import (
	"os"
	"strconv"
	"strings"
	"time"

	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// syslog makes one line per message.
type syslog struct {
	silent
	t       *wire.Target
	pid     string
	packet  []byte
	counted []byte // packet, with its length before it
}

func newSyslog(t *wire.Target) *syslog { return &syslog{t: t, pid: strconv.Itoa(os.Getpid())} }

func (s *syslog) Encode(m *logs.Message, emit func([]byte)) {
	b := append(s.packet[:0], '<')
	b = strconv.AppendInt(b, int64(s.t.Facility<<3|severity(m)), 10)
	b = append(b, '>')
	b = s.header(b, m.Time)
	b = append(b, text(m)...)
	b = append(b, '\n')
	s.packet = b
	if s.t.TLS != nil && strings.HasPrefix(s.t.Format, "rfc5424") { // counted, as RFC 5425 wants it and Docker does
		s.counted = append(strconv.AppendInt(s.counted[:0], int64(len(b)), 10), ' ')
		s.counted = append(s.counted, b...)
		b = s.counted
	}
	emit(b)
}

// header appends what stands between the priority and the text.
func (s *syslog) header(b []byte, at time.Time) []byte {
	switch s.t.Format {
	case "rfc5424", "rfc5424micro":
		form := time.RFC3339
		if s.t.Format == "rfc5424micro" {
			form = "2006-01-02T15:04:05.000000Z07:00"
		}
		b = at.Local().AppendFormat(append(b, "1 "...), form)
		for _, f := range []string{s.t.Host, s.t.Tag, s.pid, s.t.Tag, "-"} { // the tag is program and kind of message, as in Docker
			b = append(append(b, ' '), f...)
		}
		return append(b, ' ')
	case "rfc3164":
		b = at.Local().AppendFormat(b, time.Stamp)
		b = append(append(b, ' '), s.t.Host...)
	default: // what syslog(3) writes to /dev/log
		b = at.Local().AppendFormat(b, time.Stamp)
	}
	b = append(append(b, ' '), s.t.Tag...)
	b = append(append(b, '['), s.pid...)
	return append(b, "]: "...)
}
