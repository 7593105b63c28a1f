package ids

import (
	"math/rand/v2"
	"strconv"
)

var adjectives = [...]string{
	"able", "agile", "amber", "ample", "awake", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
	"cheery", "civil", "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "early", "easy", "elated",
	"fair", "fancy", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy",
	"honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild",
	"modest", "neat", "nimble", "noble", "open", "patient", "plucky", "polite", "prime", "proud", "quick", "quiet",
	"ready", "rosy", "serene", "sharp", "silent", "simple", "sleek", "smart", "snug", "solid", "spry", "steady",
	"sunny", "swift", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
}

// nouns are things of a harbour: what loads, carries and guides freight.
var nouns = [...]string{
	"anchor", "barge", "beacon", "berth", "boom", "bosun", "bow", "buoy", "cabin", "cable", "canvas", "capstan",
	"captain", "chain", "chart", "clipper", "coaster", "compass", "crane", "crate", "crew", "cutter", "davit", "deck",
	"derrick", "dinghy", "dock", "dory", "ferry", "frigate", "funnel", "galley", "gantry", "hatch", "haven", "hawser",
	"helm", "hold", "hook", "hull", "jetty", "keel", "ketch", "knot", "lantern", "lighter", "lock", "log",
	"lugger", "mast", "mole", "mooring", "oar", "pallet", "pier", "pilot", "pontoon", "port", "prow", "pulley",
	"quay", "raft", "rigger", "rope", "rudder", "sail", "schooner", "seal", "sextant", "skiff", "sling", "sloop",
	"spar", "stern", "tackle", "tender", "tide", "tiller", "trawler", "tug", "vessel", "wharf", "winch", "yawl",
}

// Name returns a random name of two words; from the third try on (attempt
// counts from 0) a number is added, so that a few tries always suffice.
func Name(attempt int) string {
	n := adjectives[rand.IntN(len(adjectives))] + "_" + nouns[rand.IntN(len(nouns))]
	if attempt >= 2 {
		n += strconv.Itoa(rand.IntN(1 << (4 + 2*min(attempt, 10))))
	}
	return n
}
