// Package clients pins clients of Docker that lade must not be told from
// Docker by, in a module of its own, so that nothing of it enters the product's
// graph. The directories below it are programs that go through the API with
// one client library each.
package clients
