package swagger

// lapse reports whether the contract is known to be wrong at a place.
func lapse(minor int, operation, at string) bool {
	for _, l := range lapses {
		if l.operation == operation && l.at == at && minor <= l.until {
			return true
		}
	}
	return false
}

// lapses are the places at which a real Docker contradicts the files of its
// module up to a version, and what lade adds.
var lapses = []struct {
	operation, at string
	until         int
}{
	{"ContainerInspect", ".HostConfig.MemorySwappiness", Newest}, // null on version 2 of control groups, and unless it was asked for
	// The lists of before 1.52 are there for every client that does not ask
	// for the verbose form.
	{"SystemDataUsage", ".BuildCache", Newest},
	{"SystemDataUsage", ".Containers", Newest},
	{"SystemDataUsage", ".Images", Newest},
	{"SystemDataUsage", ".Volumes", Newest},
	{"SystemDataUsage", ".LayersSize", Newest},
	{"ExecInspect", ".ExitCode", Newest}, // null while it runs
	// The form of events of before 1.22, sent until 1.51 and never described.
	{"SystemEvents", ".status", 51},
	{"SystemEvents", ".id", 51},
	{"SystemEvents", ".from", 51},
	// What Docker does not have: docs/compatibility.md.
	{"ContainerInspect", ".HostConfig.NetRateIn", Newest},
	{"ContainerInspect", ".HostConfig.NetRateOut", Newest},
	{"ContainerInspect", ".HostConfig.NetBurst", Newest},
	{"ContainerStats", ".pressure", Newest},
	{"ContainerStats", ".net_rates", Newest},
}
