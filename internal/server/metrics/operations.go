package metrics

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// bounds are the upper bounds of what is counted together. An operation of
// this engine takes from tens of microseconds to seconds.
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Operations counts the operations of the API. The zero value is ready for use.
type Operations struct {
	mu  sync.Mutex
	all map[string]*durations // guarded by mu
}

type durations struct {
	buckets [len(bounds) + 1]uint64
	sum     time.Duration
	failed  uint64
}

// Observe notes an operation that has ended.
func (o *Operations) Observe(operation string, took time.Duration, failed bool) {
	at, _ := slices.BinarySearch(bounds[:], took)
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.all[operation]
	if d == nil {
		if o.all == nil {
			o.all = map[string]*durations{}
		}
		d = new(durations)
		o.all[operation] = d
	}
	d.buckets[at]++
	d.sum += took
	if failed {
		d.failed++
	}
}

func (o *Operations) write(b *bytes.Buffer) {
	took := family{name: "lade_operation_duration_seconds", kind: histogram, help: "How long operations of the API took, streams and waiting apart."}
	failed := family{name: "lade_operation_failures_total", kind: counter, help: "Operations of the API that ended with an error."}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(o.all)) {
		d := o.all[name]
		count := uint64(0)
		for i, n := range d.buckets {
			count += n
			le := "+Inf"
			if i < len(bounds) {
				le = strconv.FormatFloat(bounds[i].Seconds(), 'g', -1, 64)
			}
			took.samples = append(took.samples, sample{"_bucket", []string{"operation", name, "le", le}, float64(count)})
		}
		of := []string{"operation", name}
		took.samples = append(took.samples, sample{"_sum", of, d.sum.Seconds()}, sample{"_count", of, float64(count)})
		failed.add(float64(d.failed), of...)
	}
	took.write(b)
	failed.write(b)
}
