package registrytest

import "net"

// tunedListener sets the socket options of accepted connections before any byte
// is written to them.
type tunedListener struct {
	net.Listener
	rate       int // bytes a second, 0 for no limit
	sendBuffer int // bytes, 0 for the kernel's default
}

func (l tunedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if tune(c.(*net.TCPConn), l.rate, l.sendBuffer) == nil {
			return c, nil
		}
		_ = c.Close() // never served untuned: the client sees the connection end
	}
}
