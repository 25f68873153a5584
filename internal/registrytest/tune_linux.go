package registrytest

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

func tuningSupported() error { return nil }

// tune sets a connection's pacing rate and send buffer.
func tune(c *net.TCPConn, rate, sendBuffer int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if rate > 0 {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate)
		}
		if sendBuffer > 0 && set == nil {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
	})
	return errors.Join(err, set)
}
