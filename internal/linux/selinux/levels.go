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

// pair is two categories, the lower one first; the zero value is none.
type pair struct{ low, high int }

// reserved is the pair that no container gets: it labels the files of those that
// have no label (Defaults.Unconfined).
var reserved = pair{categories - 2, categories - 1}

func (p pair) String() string { return "c" + strconv.Itoa(p.low) + ",c" + strconv.Itoa(p.high) }

// next returns another pair, by which all are reached in turn.
func (p pair) next() pair {
	switch {
	case p.high+1 < categories:
		return pair{p.low, p.high + 1}
	case p.low+2 < categories:
		return pair{p.low + 1, p.low + 2}
	}
	return pair{0, 1}
}

// anyPair returns one at random, so that the label of a file that was left behind
// is not soon a new container's.
func anyPair() pair {
	low, high := rand.IntN(categories), rand.IntN(categories-1)
	if high < low {
		return pair{high, low}
	}
	return pair{low, high + 1}
}

// Levels knows which pairs of categories are in use. The zero value knows none.
type Levels struct {
	mu   sync.Mutex
	held map[pair]int // guarded by mu: how many hold one
}

// Allocate returns the level of a sensitivity with two categories that nobody
// holds, and holds it. Errors: Exhausted.
func (l *Levels) Allocate(sensitivity string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := anyPair()
	for range categories * (categories - 1) / 2 {
		if p != reserved && l.held[p] == 0 {
			l.hold(p)
			return sensitivity + ":" + p.String(), nil
		}
		p = p.next()
	}
	return "", errdefs.Exhaustedf("no pair of SELinux categories is free")
}

// Hold notes that one more container has a level, by whatever way it came to it.
func (l *Levels) Hold(level string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := pairOf(level); ok {
		l.hold(p)
	}
}

func (l *Levels) hold(p pair) {
	if l.held == nil {
		l.held = map[pair]int{}
	}
	l.held[p]++
}

// Free ends one Hold or Allocate.
func (l *Levels) Free(level string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, _ := pairOf(level); l.held[p] > 1 {
		l.held[p]--
	} else {
		delete(l.held, p)
	}
}

// pairOf returns the pair of a level, if that has exactly two categories.
func pairOf(level string) (p pair, ok bool) {
	_, cats, _ := strings.Cut(level, ":")
	a, b, two := strings.Cut(cats, ",")
	x, xok := category(a)
	y, yok := category(b)
	if !two || !xok || !yok || x == y {
		return pair{}, false
	}
	return pair{min(x, y), max(x, y)}, true
}

func category(s string) (int, bool) {
	digits, ok := strings.CutPrefix(s, "c")
	n, err := strconv.ParseUint(digits, 10, 16)
	return int(n), ok && err == nil && n < categories && digits == strconv.FormatUint(n, 10)
}
