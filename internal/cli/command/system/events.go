package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/template"
	"time"

	"github.com/moby/moby/api/types/events"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

func buildEvents(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	var o moby.EventsListOptions
	f.StringVar(&o.Since, "since", "", "Show all events created since timestamp")
	f.StringVar(&o.Until, "until", "", "Stream events until this timestamp")
	f.VarP(&filter, "filter", "f", "Filter output based on conditions provided")
	layout := f.String("format", "", app.InspectFormat)
	return func(ctx context.Context, _ []string) error {
		t, err := eventTemplate(*layout)
		if err != nil {
			return &app.Exit{Code: 64, Msg: "Error parsing format: " + err.Error()}
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		o.Filters = filter.Values()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		res := api.Events(ctx, o)
		for {
			select {
			case m := <-res.Messages:
				if err := printEvent(e.Out, &m, t); err != nil {
					return err
				}
			case err := <-res.Err:
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		}
	}
}

func eventTemplate(layout string) (*template.Template, error) {
	switch layout {
	case "":
		return nil, nil
	case format.JSON:
		layout = "{{json .}}"
	}
	t, err := format.Parse(layout)
	if err == nil {
		// A field that does not exist is found before the first event.
		err = t.Execute(io.Discard, &events.Message{})
	}
	return t, err
}

func printEvent(w io.Writer, m *events.Message, t *template.Template) error {
	if t != nil {
		err := t.Execute(w, m)
		_, werr := fmt.Fprintln(w)
		return errors.Join(err, werr)
	}
	at := time.Unix(m.Time, 0)
	if m.TimeNano != 0 {
		at = time.Unix(0, m.TimeNano)
	}
	line := fmt.Sprintf("%s %s %s %s", at.Format("2006-01-02T15:04:05.000000000Z07:00"), m.Type, m.Action, m.Actor.ID)
	if a := m.Actor.Attributes; len(a) > 0 {
		line += " (" + joinSorted(a) + ")"
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
