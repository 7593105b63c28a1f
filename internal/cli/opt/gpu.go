package opt

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// GPUs is the flag --gpus: "all", a count, or key=value pairs as a CSV record.
type GPUs struct{ values []container.DeviceRequest }

// String lists the requests.
func (g *GPUs) String() string {
	out := make([]string, 0, len(g.values))
	for _, v := range g.values {
		out = append(out, fmt.Sprint(v))
	}
	return strings.Join(out, ", ")
}

// Type is "gpu-request".
func (*GPUs) Type() string { return "gpu-request" }

// Values are the requests; nil when there are none.
func (g *GPUs) Values() []container.DeviceRequest { return g.values }

// Set parses one request.
func (g *GPUs) Set(v string) error {
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return err
	}
	r := container.DeviceRequest{}
	seen := map[string]bool{}
	for _, f := range fields {
		key, val, pair := strings.Cut(f, "=")
		if seen[key] {
			return fmt.Errorf("gpu request key '%s' can be specified only once", key)
		}
		seen[key] = true
		if !pair {
			key, val = "count", key
			seen[key] = true
		}
		switch key {
		case "count":
			if r.Count, err = gpuCount(val); err != nil {
				return err
			}
		case "driver":
			r.Driver = val
		case "device":
			r.DeviceIDs = strings.Split(val, ",")
		case "capabilities":
			r.Capabilities = [][]string{append(strings.Split(val, ","), "gpu")}
		case "options":
			o, err := csv.NewReader(strings.NewReader(val)).Read()
			if err != nil {
				return fmt.Errorf("failed to read gpu options: %w", err)
			}
			r.Options = Pairs(o)
		default:
			return fmt.Errorf("unexpected key '%s' in '%s'", key, f)
		}
	}
	if !seen["count"] && r.DeviceIDs == nil {
		r.Count = 1
	}
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	if r.Capabilities == nil {
		r.Capabilities = [][]string{{"gpu"}}
	}
	g.values = append(g.values, r)
	return nil
}

func gpuCount(v string) (int, error) {
	if v == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fmt.Errorf(`invalid count (%s): value must be either "all" or an integer: %w`, v, numError(err))
	}
	return n, nil
}
