// Package metrics writes what the engine and its containers have used in
// Prometheus's text format, and counts how long operations of the API take.
//
// Series of containers have the names and units that cAdvisor gives them, so
// that the dashboards made for it show lade; the states of containers have
// dockerd's name. What is lade's own begins with "lade_".
//
// Concurrency: Operations may be used by any number of goroutines.
//
// Sources: https://prometheus.io/docs/instrumenting/exposition_formats/
// (version 0.0.4), cAdvisor's docs/storage/prometheus.md.
package metrics
