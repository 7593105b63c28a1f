package progress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/cli/terminal"
)

// Message is one report of the engine.
type Message struct {
	jsonstream.Message
	From     string `json:"from,omitempty"`
	Time     int64  `json:"time,omitempty"`
	TimeNano int64  `json:"timeNano,omitempty"`
	Bar      string `json:"progress,omitempty"` // drawn by old engines
	ErrorMsg string `json:"error,omitempty"`
}

// Show prints the messages of in until it ends. A message that carries an error
// ends it with that error. aux, if not nil, gets the messages that are for
// programs. ctx interrupts between messages; closing in interrupts a read.
func Show(ctx context.Context, in io.Reader, out *terminal.Out, aux func(json.RawMessage)) error {
	s := screen{out: out, tty: out.IsTerminal(), lines: map[string]int{}}
	dec := json.NewDecoder(in)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var m Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return ctx.Err()
		} else if err != nil {
			if cerr := ctx.Err(); cerr != nil {
				return cerr
			}
			return err
		}
		if m.Aux != nil {
			if aux != nil {
				aux(*m.Aux)
			}
			continue
		}
		if m.Error != nil {
			return m.Error
		}
		if m.ErrorMsg != "" {
			return errors.New(m.ErrorMsg)
		}
		if err := s.show(&m); err != nil {
			return err
		}
	}
}

// screen remembers which line belongs to which layer.
type screen struct {
	out   *terminal.Out
	tty   bool
	lines map[string]int
}

func (s *screen) show(m *Message) error {
	up := 0
	if m.ID != "" && (m.Progress != nil || m.Bar != "") {
		line, known := s.lines[m.ID]
		if !known {
			line = len(s.lines)
			s.lines[m.ID] = line
			if s.tty {
				if _, err := io.WriteString(s.out, "\n"); err != nil {
					return err
				}
			}
		}
		up = len(s.lines) - line
	} else {
		// What is no progress scrolls, so the lines above are history.
		clear(s.lines)
	}
	text := s.text(m)
	if text == "" {
		return nil
	}
	if s.tty && m.ID != "" {
		if up > 0 {
			text = fmt.Sprintf("\x1b[%dA%s\x1b[%dB", up, text, up)
		}
	}
	_, err := io.WriteString(s.out, text)
	return err
}

func (s *screen) text(m *Message) string {
	var b strings.Builder
	bar := ""
	if m.Progress != nil {
		bar = s.bar(m.Progress)
	}
	end := ""
	if s.tty && m.Stream == "" && m.Progress != nil {
		end = "\r"
		b.WriteString("\x1b[2K\r")
	} else if bar != "" {
		return "" // no bars where nothing can be redrawn
	}
	const stamp = "2006-01-02T15:04:05.000000000Z07:00 "
	if m.TimeNano != 0 {
		b.WriteString(time.Unix(0, m.TimeNano).Format(stamp))
	} else if m.Time != 0 {
		b.WriteString(time.Unix(m.Time, 0).Format(stamp))
	}
	if m.ID != "" {
		b.WriteString(m.ID + ": ")
	}
	if m.From != "" {
		b.WriteString("(from " + m.From + ") ")
	}
	switch {
	case m.Progress != nil && s.tty:
		b.WriteString(m.Status + " " + bar + end)
	case m.Bar != "":
		b.WriteString(m.Status + " " + m.Bar + end)
	case m.Stream != "":
		b.WriteString(m.Stream + end)
	default:
		b.WriteString(m.Status + end + "\n")
	}
	return b.String()
}

// barWidth is how many cells a full bar has; terminals of 110 columns and less
// show numbers only.
const barWidth = 50

func (s *screen) bar(p *jsonstream.Progress) string {
	if p.Current <= 0 && p.Total <= 0 {
		return ""
	}
	count := func(n int64) string {
		if p.Units == "" {
			return units.HumanSize(float64(n))
		}
		return fmt.Sprint(n)
	}
	unit := ""
	if p.Units != "" {
		unit = " " + p.Units
	}
	if p.Total <= 0 {
		if p.Units == "" {
			return fmt.Sprintf("%8v", count(p.Current))
		}
		return count(p.Current) + unit
	}
	width := uint(200)
	if s.tty {
		if _, w := s.out.Size(); w > 0 {
			width = w
		}
	}
	done := min(int(float64(p.Current)/float64(p.Total)*100)/2, barWidth)
	text := ""
	if width > 110 {
		text = "[" + strings.Repeat("=", done) + ">" + strings.Repeat(" ", barWidth-done) + "] "
	}
	if !p.HideCounts {
		numbers := count(p.Current)
		if p.Units == "" {
			numbers = fmt.Sprintf("%8v", numbers)
		}
		if p.Current <= p.Total { // a total below the current count is wrong
			numbers += "/" + count(p.Total)
		}
		text += numbers + unit
	}
	if width > 50 && p.Current > 0 && p.Start > 0 && done < barWidth {
		each := time.Since(time.Unix(p.Start, 0)) / time.Duration(p.Current)
		text += " " + (time.Duration(p.Total-p.Current) * each).Round(time.Second).String()
	}
	return text
}
