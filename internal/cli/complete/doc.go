// Package complete knows what may stand where on a command line: the live names
// of the engine's containers, images, volumes and so on, and the words that flags
// take. The usage line of a command says what its arguments are ("stop [OPTIONS]
// CONTAINER [CONTAINER...]"), so that no command has to say it a second time.
//
// A completion is "word" or "word\tdescription", as cobra has it. Asking takes
// one request, has two seconds, never starts an engine, and never fails: without
// an answer there is nothing to complete.
//
// Concurrency: no state; a completion is one call.
//
// Sources: docs.docker.com/engine/cli/completion, cobra's "Active Help" and
// "Shell Completion" documents.
package complete
