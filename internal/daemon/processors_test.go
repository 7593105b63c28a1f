package daemon

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// One request at a time needs one processor; two at once, or one that is worth
// two, get all of them, and keep them for a while.
func TestProcessors(t *testing.T) {
	runtime.GOMAXPROCS(3)
	defer runtime.SetDefaultGOMAXPROCS()
	all := runtime.NumCPU()
	if all == 1 {
		t.Log("with one processor there is nothing to choose")
	}
	synctest.Test(t, func(t *testing.T) {
		p := newProcessors()
		expect := func(when string, want int) {
			t.Helper()
			if got := runtime.GOMAXPROCS(0); got != want {
				t.Errorf("%s: %d processors, want %d", when, got, want)
			}
		}
		expect("at the start", 3)
		time.Sleep(2 * wideFor)
		expect("when nothing happened", 1)
		p.change(1)
		expect("with one request", 1)
		p.change(1)
		expect("with two", all)
		time.Sleep(10 * wideFor)
		expect("with two that take long", all)
		p.change(-1)
		time.Sleep(wideFor / 2)
		expect("just after", all)
		time.Sleep(wideFor)
		expect("a while after", 1)
		p.change(-1)
		p.change(2)
		expect("with a big one", all)
		p.change(-2)
		time.Sleep(2 * wideFor)
		expect("at the end", 1)
	})
}
