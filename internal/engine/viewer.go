package engine

import "lade/internal/engine/archive"

// viewer puts containers and images in the words of the API, for inspect, lists
// and reports alike. It reads what is published and waits for nobody.
type viewer struct {
	*host
	copier *archive.Copier
}
