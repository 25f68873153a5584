package cli_test

import (
	"fmt"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-cli/davit/internal/registrytest"
)

const proxyUsage = `usage:
	proxy start NAME [user=U] [password=P] [refuse=STATUS]
	                                     run a proxy for HTTP, CONNECT and SOCKS5; $NAME is its host
	proxy through NAME                   print what went through, a line each`

// proxyCommand runs proxies in the test's process.
func proxyCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf(proxyUsage)
	}
	s := stateOf(ts)
	switch verb, name, rest := args[0], args[1], options(args[2:]); verb {
	case "start":
		var o registrytest.ProxyOptions
		o.User, _ = take(rest, "user")
		o.Password, _ = take(rest, "password")
		if v, ok := take(rest, "refuse"); ok {
			o.Refuse = int(size(ts, v))
		}
		unknown(ts, rest)
		p, err := registrytest.NewProxy(o)
		ts.Check(err)
		ts.Defer(func() { _ = p.Close() })
		s.proxies[name] = p
		ts.Setenv(name, p.Host())
	case "through":
		p, ok := s.proxies[name]
		if !ok {
			ts.Fatalf("no proxy %q was started", name)
		}
		for _, line := range p.Through() {
			_, _ = fmt.Fprintln(ts.Stdout(), line)
		}
	default:
		ts.Fatalf(proxyUsage)
	}
}
