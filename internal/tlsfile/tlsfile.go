// Package tlsfile reads what TLS needs from files in PEM, with the words that Docker
// has for what is wrong with them. There is no state: it may be used by several
// goroutines.
//
// Source: tlsconfig of github.com/docker/go-connections.
package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"lade/internal/errdefs"
)

// Client returns the configuration of a client that trusts the authorities in the
// file ca, or the system's if that is "", and has the certificate of cert and key, or
// none if both are "". Errors: Invalid, with the file.
func Client(ca, cert, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		var err error
		if c.RootCAs, err = Authorities(ca); err != nil {
			return nil, err
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, errdefs.Invalidf("Could not load X509 key pair: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Authorities returns the certificates in a file, and no others. Errors: Invalid,
// also for a file without any.
func Authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, errdefs.Invalidf("could not read CA certificate %q: %w", file, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errdefs.Invalidf("failed to append certificates from PEM file: %q", file)
	}
	return pool, nil
}
