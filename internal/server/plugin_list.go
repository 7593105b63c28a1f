package server

import (
	"net/http"

	"github.com/moby/moby/api/types/plugin"
)

// pluginList lists no plugins: the engine has none to manage.
func (s *server) pluginList(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r).filters(); err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, []plugin.Plugin{})
}
