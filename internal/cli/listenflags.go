package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/davit-cli/davit/serve"
)

// listenFlags tell where a server listens, and how.
type listenFlags struct {
	addr      string
	cert, key string
	grace     time.Duration
}

func (f *listenFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.addr, "addr", "127.0.0.1:5000", "`HOST:PORT` to listen on; :5000 is all addresses, port 0 any free one")
	flags.StringVar(&f.cert, "tls-cert", "", "`FILE` with the certificate and its chain (PEM), for HTTPS")
	flags.StringVar(&f.key, "tls-key", "", "`FILE` with the certificate's key (PEM)")
	flags.DurationVar(&f.grace, "grace", serve.DefaultGrace, "when stopped, cut what is still under way after this `TIME`")
}

func (f *listenFlags) validate() error {
	_, _, err := net.SplitHostPort(f.addr)
	switch {
	case err != nil:
		return usagef("--addr %q: want HOST:PORT, such as 0.0.0.0:5000", f.addr)
	case (f.cert == "") != (f.key == ""):
		return usagef("--tls-cert and --tls-key belong together")
	case f.grace < 0:
		return usagef("--grace %v: want 0 or more", f.grace)
	}
	return nil
}

// graceTime is --grace as the library takes it, for which 0 is the default.
func (f *listenFlags) graceTime() time.Duration {
	if f.grace == 0 {
		return -1
	}
	return f.grace
}

// listening is where a server listens.
type listening struct {
	listener net.Listener
	tls      *tls.Config // nil: plain HTTP
	host     string      // host:port, as clients write it
	loopback bool        // so that nobody else reaches it
}

// open listens. The caller closes it.
func (f *listenFlags) open(ctx context.Context) (*listening, error) {
	var l listening
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		l.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	var config net.ListenConfig
	var err error
	if l.listener, err = config.Listen(ctx, "tcp", f.addr); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", f.addr, err)
	}
	at, ok := l.listener.Addr().(*net.TCPAddr)
	if !ok {
		return &l, nil // it is one
	}
	l.loopback = at.IP.IsLoopback()
	host, _, _ := net.SplitHostPort(f.addr)
	if address, err := netip.ParseAddr(host); host == "" || err == nil && address.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "127.0.0.1"
		}
	}
	l.host = net.JoinHostPort(host, fmt.Sprint(at.Port))
	return &l, nil
}

func (l *listening) close() { _ = l.listener.Close() } // serve has closed it, or nobody came
