//go:build !linux

package registrytest

import (
	"errors"
	"net"
)

func tuningSupported() error { return errors.ErrUnsupported }

func tune(*net.TCPConn, int, int) error { return errors.ErrUnsupported }
