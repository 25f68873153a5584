package cli_test

import (
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-cli/davit/internal/registrytest"
)

const proxyUsage = `usage:
	proxy start NAME [user=U password=P] [tls] [HOST=NAME…]
	                       run a proxy for HTTP, CONNECT and SOCKS5; $NAME is its host. It
	                       leads requests for HOST to the registry NAME
	proxy ca NAME FILE     write the CA of its certificate
	proxy through NAME     print the hosts that it was asked for`

func proxyCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf(proxyUsage)
	}
	s := stateOf(ts)
	verb, name, args := args[0], args[1], args[2:]
	if verb == "start" {
		rest := options(args)
		o := registrytest.ProxyOptions{Resolve: map[string]string{}}
		o.User, _ = take(rest, "user")
		o.Password, _ = take(rest, "password")
		_, o.TLS = take(rest, "tls")
		for host, registry := range rest {
			r, ok := s.registries[registry]
			if !ok {
				ts.Fatalf("no registry %q was started", registry)
			}
			o.Resolve[host] = r.Host()
		}
		p, err := registrytest.NewProxy(o)
		ts.Check(err)
		s.proxies[name] = p
		ts.Setenv(name, p.Host())
		return
	}
	p, ok := s.proxies[name]
	switch {
	case !ok:
		ts.Fatalf("no proxy %q was started", name)
	case verb == "ca" && len(args) == 1:
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), p.CAPEM(), 0o666))
	case verb == "through":
		_, _ = fmt.Fprintln(ts.Stdout(), strings.Join(p.Through(), "\n"))
	default:
		ts.Fatalf(proxyUsage)
	}
}
