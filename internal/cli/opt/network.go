package opt

import (
	"encoding/csv"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Attachment is one network a container joins, with its options.
type Attachment struct {
	Target       string
	Aliases      []string
	DriverOpts   map[string]string
	Links        []string
	IPv4, IPv6   string
	LinkLocalIPs []string
	MAC          string
	GwPriority   int
}

// Networks is the flag --network: a name, or name=…,alias=…,ip=… as one CSV
// record.
type Networks struct{ values []Attachment }

// String is empty: help shows no default.
func (*Networks) String() string { return "" }

// Type is "network".
func (*Networks) Type() string { return "network" }

// Values are the networks; nil when there are none.
func (n *Networks) Values() []Attachment { return n.values }

// Mode is the API's network mode: the first network's name.
func (n *Networks) Mode() string {
	if len(n.values) == 0 {
		return "default"
	}
	return n.values[0].Target
}

// Set parses one network.
func (n *Networks) Set(v string) error {
	long, err := regexp.MatchString(`\w+=\w+(,\w+=\w+)*`, v)
	if err != nil {
		return err
	}
	if !long {
		n.values = append(n.values, Attachment{Target: v})
		return nil
	}
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return err
	}
	a := Attachment{Aliases: []string{}}
	for _, f := range fields {
		key, val, ok := strings.Cut(strings.ToLower(f), "=")
		if !ok || key == "" {
			return fmt.Errorf("invalid field %s", f)
		}
		if err := a.set(strings.TrimSpace(key), strings.TrimSpace(val)); err != nil {
			return err
		}
	}
	if a.Target == "" {
		return errors.New("network name/id is not specified")
	}
	n.values = append(n.values, a)
	return nil
}

func (a *Attachment) set(key, val string) error {
	switch key {
	case "name":
		a.Target = val
	case "alias":
		a.Aliases = append(a.Aliases, val)
	case "ip":
		a.IPv4 = val
	case "ip6":
		a.IPv6 = val
	case "mac-address":
		a.MAC = val
	case "link-local-ip":
		a.LinkLocalIPs = append(a.LinkLocalIPs, val)
	case "driver-opt":
		k, v, ok := strings.Cut(val, "=")
		if !ok || k == "" {
			return errors.New("invalid key value pair format in driver options")
		}
		if a.DriverOpts == nil {
			a.DriverOpts = map[string]string{}
		}
		a.DriverOpts[strings.TrimSpace(k)] = strings.TrimSpace(v)
	case "gw-priority":
		var err error
		if a.GwPriority, err = strconv.Atoi(val); err != nil {
			return fmt.Errorf("invalid gw-priority (%s): %w", val, numError(err))
		}
	default:
		return errors.New("invalid field key " + key)
	}
	return nil
}

// numError strips strconv's prefix.
func numError(err error) error {
	if n, ok := errors.AsType[*strconv.NumError](err); ok {
		return n.Err
	}
	return err
}
