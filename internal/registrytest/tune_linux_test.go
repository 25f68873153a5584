package registrytest

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTune(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := tunedListener{Listener: inner, rate: 20_000_000, sendBuffer: 64 << 10}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[int]int{unix.SO_MAX_PACING_RATE: 20_000_000, unix.SO_SNDBUF: 128 << 10} {
		var got int
		var errno error
		if err := raw.Control(func(fd uintptr) { got, errno = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option) }); err != nil {
			t.Fatal(err)
		}
		if errno != nil || got != want {
			t.Errorf("socket option %d is %d (%v), want %d", option, got, errno, want)
		}
	}
}
