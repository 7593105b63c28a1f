// Package swagger reads the contract of the Engine API, the swagger files of
// github.com/moby/moby/api, and checks answers against it: of the newest
// version and of those from 1.25 on (1.24 has a text in their place).
//
// What an answer is checked for is more than JSON schema asks and less than
// exactness: a field must be one that the version or the newest version names,
// of the type it has there, and what is required must be present. A field of a
// newer version in the answer to an older client is no error: clients skip what
// they do not know, and Docker sends such fields, too.
//
// The files have errors of their own. Where an answer of a real Docker
// (internal/server/testdata) contradicts them, Docker is right; the table of
// those places is in lapses.go.
//
// Source: OpenAPI (Swagger) 2.0; x-nullable as in go-swagger.
package swagger
