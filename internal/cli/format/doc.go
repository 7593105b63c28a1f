// Package format prints what commands list or inspect: tables with aligned
// columns, Go templates with Docker's functions, and JSON.
//
// A listed object is a Row, its fields already in words; a template names them
// as {{.ID}}, labels as {{.Label "key"}}. The format "table T" prints the
// template T as a table with headers, "json" prints a row a line as JSON,
// anything else is a template printed as it is.
//
// Sources: docs.docker.com/engine/cli/formatting; text/template, text/tabwriter.
package format
