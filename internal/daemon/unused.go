package daemon

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// unused is an option of dockerd that has no effect here. It takes every value
// of its kind and no other, so that a file that lade takes is one that Docker
// takes.
type unused string

// Set checks what stands after a flag.
func (u unused) Set(s string) error {
	var err error
	switch u {
	case "bool":
		_, err = strconv.ParseBool(s)
	case "int":
		_, err = strconv.Atoi(s)
	}
	return err
}

// String says that nothing is kept.
func (u unused) String() string { return "" }

// Type names the kind in the usage message.
func (u unused) Type() string { return string(u) }

// UnmarshalJSON checks what stands in the file.
func (u unused) UnmarshalJSON(raw []byte) error {
	var v any
	switch u {
	case "bool":
		v = new(bool)
	case "int":
		v = new(int)
	case "string":
		v = new(string)
	case "list":
		v = new([]string)
	case "map", "nri":
		v = new(map[string]json.RawMessage)
	case "mapmap":
		v = new(map[string]map[string]string)
	default:
		return fmt.Errorf("no kind %q", string(u)) // cannot be
	}
	return json.Unmarshal(raw, v)
}

// reason says why an option of dockerd has no effect here, by its flag or, if
// it has none, its key.
func reason(name string) string {
	switch name {
	case "builder":
		return "what the build cache keeps is said by the policy of the disk (key \"disk\")"
	case "cpu-rt-period", "cpu-rt-runtime":
		return "the parent group gets what its containers ask for"
	case "feature":
		return "the engine knows buildkit and cdi"
	case "node-generic-resource":
		return "it is for swarms"
	case "nri-opts":
		return "there is no NRI"
	}
	return "it has no effect"
}
