package server

import (
	"net/http"

	"github.com/moby/moby/api/types/plugin"
)

// pluginList lists no plugins: the engine has none to manage.
func (s *server) pluginList(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	if err := f.Validate("enabled", "capability"); err != nil {
		return err
	}
	if _, err := f.Bool("enabled", false); err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, []plugin.Plugin{})
}
