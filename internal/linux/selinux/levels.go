package selinux

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"lade/internal/errdefs"
)

// categories is how many the policies of all distributions have: c0 to c1023.
const categories = 1024

// reserved is the pair that no container gets: it labels the files of those that
// have no label (Defaults.Unconfined).
const reserved = "c1022,c1023"

// Levels knows which pairs of categories are in use. The zero value knows none.
type Levels struct {
	mu   sync.Mutex
	held map[string]int // guarded by mu: how many hold a pair, by its name
}

// Allocate returns the level of a sensitivity with two categories that nobody
// holds, and holds it. Errors: Exhausted.
func (l *Levels) Allocate(sensitivity string) (string, error) {
	const pairs = categories * (categories - 1) / 2
	l.mu.Lock()
	defer l.mu.Unlock()
	// Random, so that the label of a file that was left behind is not soon a new
	// container's.
	for i, first := 0, rand.IntN(pairs); i < pairs; i++ {
		p := pair((first + i) % pairs)
		if p != reserved && l.held[p] == 0 {
			l.hold(p)
			return sensitivity + ":" + p, nil
		}
	}
	return "", errdefs.Exhaustedf("no pair of SELinux categories is free")
}

// Hold notes that one more container has a level, by whatever way it came to it.
func (l *Levels) Hold(level string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := pairOf(level); p != "" {
		l.hold(p)
	}
}

func (l *Levels) hold(p string) {
	if l.held == nil {
		l.held = map[string]int{}
	}
	l.held[p]++
}

// Free ends one Hold or Allocate.
func (l *Levels) Free(level string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := pairOf(level); l.held[p] > 1 {
		l.held[p]--
	} else {
		delete(l.held, p)
	}
}

// pair returns one of the categories·(categories−1)/2 pairs.
func pair(n int) string {
	low := 0
	for n >= categories-1-low {
		n -= categories - 1 - low
		low++
	}
	return "c" + strconv.Itoa(low) + ",c" + strconv.Itoa(low+1+n)
}

// pairOf returns the pair of a level, the lower one first, or nothing if it has
// not exactly two categories.
func pairOf(level string) string {
	_, cats, _ := strings.Cut(level, ":")
	a, b, ok := strings.Cut(cats, ",")
	x, xok := category(a)
	y, yok := category(b)
	switch {
	case !ok || !xok || !yok || x == y:
		return ""
	case x > y:
		a, b = b, a
	}
	return a + "," + b
}

func category(s string) (int, bool) {
	digits, ok := strings.CutPrefix(s, "c")
	n, err := strconv.ParseUint(digits, 10, 16)
	return int(n), ok && err == nil && n < categories && digits == strconv.FormatUint(n, 10)
}
