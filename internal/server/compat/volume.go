package compat

import (
	"encoding/json"
	"net/url"
)

func volumeRows() []Row {
	return []Row{
		// Named volumes were pruned too.
		query("VolumePrune", 42, func(q url.Values) {
			sets := map[string]any{}
			if f := q.Get("filters"); f != "" && json.Unmarshal([]byte(f), &sets) != nil {
				return // the handler says what is wrong with it
			}
			sets["all"] = []string{"true"}
			if b, err := json.Marshal(sets); err == nil {
				q.Set("filters", string(listed(b)))
			}
		}),
	}
}
