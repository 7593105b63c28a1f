package etc

// Hosts returns /etc/hosts for a container. extra are "name:address" pairs
// (also "name=address"); host-gateway must be replaced already. ip is "" for a
// container without an address.
func Hosts(hostname, domain, ip string, extra []string) []byte { return nil }

// Resolv returns /etc/resolv.conf for a container on the default bridge from
// the host's file; dns, search and options, where not empty, replace what the
// host's file says. search of "." means none.
func Resolv(host []byte, dns, search, options []string) []byte { return nil }

// Host returns the host's resolv.conf: that of systemd-resolved's upstream
// servers when /etc/resolv.conf names only its stub.
func Host() []byte { return nil }
