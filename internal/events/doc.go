// Package events passes on what happens in the engine: a ring of the newest
// messages, read by any number of subscribers at their own pace.
//
// The ring is also on disk, so that an engine that was restarted, by whatever end,
// can replay what came before.
//
// A subscriber that falls behind by more than the ring's length gets an error
// and not a silent gap. Nothing here blocks a publisher.
//
// Source: Docker Engine API, GET /events.
package events
