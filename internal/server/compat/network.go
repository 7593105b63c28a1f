package compat

import "github.com/moby/moby/api/types/network"

func networkRows() []Row {
	return []Row{
		response("NetworkInspect", 52, func(n *network.Inspect) any {
			out := *n
			out.Status = nil
			return &out
		}),
		response("NetworkList", 28, func(list []network.Summary) any {
			out := make([]network.Inspect, len(list))
			for i, n := range list {
				out[i] = network.Inspect{Network: n.Network, Containers: map[string]network.EndpointResource{}}
			}
			return out
		}),
	}
}
