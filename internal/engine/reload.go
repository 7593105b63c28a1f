package engine

import (
	"os"

	"github.com/moby/moby/api/types/events"
)

// Reload replaces the settings, for all that begins afterwards: containers that
// exist keep what they were created with. changed are the options that differ,
// by their keys in daemon.json and with their new values, for the event
// "reload" of the daemon; the engine adds its name and keeps the map.
func (e *Engine) Reload(s Settings, changed map[string]string) {
	e.set.Store(&s)
	if name, err := os.Hostname(); err == nil {
		changed["name"] = name
	}
	e.events.Publish(events.DaemonEventType, events.ActionReload, e.id, changed)
}
