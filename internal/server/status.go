package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// status returns the HTTP status of an error. Every kind has its line: what is
// not classified is our fault.
func status(err error) int {
	switch errdefs.KindOf(err) {
	case errdefs.Invalid:
		return http.StatusBadRequest
	case errdefs.Unauthorized:
		return http.StatusUnauthorized
	case errdefs.Forbidden:
		return http.StatusForbidden
	case errdefs.NotFound:
		return http.StatusNotFound
	case errdefs.Conflict:
		return http.StatusConflict
	case errdefs.NotModified:
		return http.StatusNotModified
	case errdefs.Unavailable:
		return http.StatusServiceUnavailable
	case errdefs.NotImplemented:
		return http.StatusNotImplemented
	case errdefs.Exhausted, // as Docker: clients retry on 507 and 429
		errdefs.Canceled, // the client is usually gone
		errdefs.Deadline,
		errdefs.DataLoss,
		errdefs.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}
