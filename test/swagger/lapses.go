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
// module up to a version.
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
}
