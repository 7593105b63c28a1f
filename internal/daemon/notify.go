package daemon

import (
	"net"
	"os"
)

// notify tells the service manager about our state, such as "READY=1". Without
// one it does nothing.
//
// Source: sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names; a
// leading @ is the abstract name space.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}
