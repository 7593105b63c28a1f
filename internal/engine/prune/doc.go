// Package prune finds what nobody uses, says how much disk space that is (`system
// df`) and removes it (`… prune`).
//
// Concurrency: a Pruner has no state. What comes into use while it works is
// refused by its owner and stays.
package prune
