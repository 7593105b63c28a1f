package opt

import (
	"errors"
	"fmt"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// Bytes is a size such as "128m" or "2g", in bytes; units are powers of 1024.
type Bytes int64

// Set parses a size.
func (b *Bytes) Set(v string) error {
	n, err := units.RAMInBytes(v)
	*b = Bytes(n)
	return err
}

// String is the size for people; zero is "0".
func (b *Bytes) String() string {
	if *b > 0 {
		return units.BytesSize(float64(*b))
	}
	return "0"
}

// Type is "bytes".
func (*Bytes) Type() string { return "bytes" }

// SwapBytes is a size where -1 means without limit.
type SwapBytes int64

// Set parses a size or -1.
func (b *SwapBytes) Set(v string) error {
	if v == "-1" {
		*b = -1
		return nil
	}
	return (*Bytes)(b).Set(v)
}

// String is the size for people.
func (b *SwapBytes) String() string {
	if *b == -1 {
		return "-1"
	}
	return (*Bytes)(b).String()
}

// Type is "bytes".
func (*SwapBytes) Type() string { return "bytes" }

// Duration is a time such as "1m30s".
type Duration time.Duration

// Set parses a duration.
func (d *Duration) Set(v string) error {
	n, err := time.ParseDuration(v)
	*d = Duration(n)
	return err
}

// String is the duration, empty for zero.
func (d *Duration) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Type is "duration".
func (*Duration) Type() string { return "duration" }

// CPUs is a number of processors in billionths.
type CPUs int64

// Set parses a decimal number with at most nine digits after the point.
func (c *CPUs) Set(v string) error {
	r, ok := new(big.Rat).SetString(v)
	if !ok {
		return fmt.Errorf("failed to parse %v as a rational number", v)
	}
	nano := r.Mul(r, big.NewRat(1e9, 1))
	if !nano.IsInt() {
		return errors.New("value is too precise")
	}
	*c = CPUs(nano.Num().Int64())
	return nil
}

// String is the number with three decimals; zero is empty.
func (c *CPUs) String() string {
	if *c == 0 {
		return ""
	}
	return big.NewRat(int64(*c), 1e9).FloatString(3)
}

// Type is "decimal".
func (*CPUs) Type() string { return "decimal" }

// Ulimits are resource limits by name.
type Ulimits map[string]*container.Ulimit

// Set parses name=soft[:hard].
func (u Ulimits) Set(v string) error {
	l, err := units.ParseUlimit(v)
	if err != nil {
		return err
	}
	u[l.Name] = l
	return nil
}

// String lists the limits.
func (u Ulimits) String() string {
	out := make([]string, 0, len(u))
	for _, l := range u.Values() {
		out = append(out, l.String())
	}
	return fmt.Sprint(out)
}

// Type is "ulimit".
func (Ulimits) Type() string { return "ulimit" }

// Values are the limits ordered by name; never nil.
func (u Ulimits) Values() []*container.Ulimit {
	out := make([]*container.Ulimit, 0, len(u))
	for _, l := range u {
		out = append(out, l)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Rate limits a device: path:rate, where rate is a size per second (Bps) or a
// plain number (IOps).
type Rate struct {
	bytes  bool
	values []*blkiodev.ThrottleDevice
}

// NewRate makes a flag of rates in bytes, or in operations.
func NewRate(bytes bool) *Rate { return &Rate{bytes: bytes, values: []*blkiodev.ThrottleDevice{}} }

// Set adds one device.
func (r *Rate) Set(v string) error {
	dev, rate, err := device(v)
	if err != nil {
		return err
	}
	d := &blkiodev.ThrottleDevice{Path: dev}
	if r.bytes {
		n, err := units.RAMInBytes(rate)
		if err != nil || n < 0 {
			return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb", v)
		}
		d.Rate = uint64(n)
	} else if d.Rate, err = strconv.ParseUint(rate, 10, 64); err != nil {
		return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>. Number must be a positive integer", v)
	}
	r.values = append(r.values, d)
	return nil
}

// String lists the devices.
func (r *Rate) String() string { return fmt.Sprint(r.values) }

// Type is "list".
func (*Rate) Type() string { return "list" }

// Values are the devices; never nil.
func (r *Rate) Values() []*blkiodev.ThrottleDevice { return r.values }

// Weight gives devices a weight for block I/O: path:weight.
type Weight struct{ values []*blkiodev.WeightDevice }

// NewWeight makes an empty flag.
func NewWeight() *Weight { return &Weight{values: []*blkiodev.WeightDevice{}} }

// Set adds one device.
func (w *Weight) Set(v string) error {
	dev, weight, err := device(v)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(weight, 10, 16)
	if err != nil || n > 0 && (n < 10 || n > 1000) {
		return fmt.Errorf("invalid weight for device: %s", v)
	}
	w.values = append(w.values, &blkiodev.WeightDevice{Path: dev, Weight: uint16(n)})
	return nil
}

// String lists the devices.
func (w *Weight) String() string { return fmt.Sprint(w.values) }

// Type is "list".
func (*Weight) Type() string { return "list" }

// Values are the devices; never nil.
func (w *Weight) Values() []*blkiodev.WeightDevice { return w.values }

func device(v string) (path, value string, err error) {
	path, value, ok := strings.Cut(v, ":")
	if !ok || path == "" {
		return "", "", fmt.Errorf("bad format: %s", v)
	}
	if !strings.HasPrefix(path, "/dev/") {
		return "", "", fmt.Errorf("bad format for device path: %s", v)
	}
	return path, value, nil
}
