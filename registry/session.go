package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	orasregistry "oras.land/oras-go/v2/registry"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// Session is what the repositories of one command share. Those on one host,
// reached in the same way, share its connections, the scheme that it turned out
// to speak, and its tokens: one exchange asks for all repositories that were
// opened with the same credential. Its methods may be called from many
// goroutines at once.
type Session struct {
	opts    Options
	secrets secrets

	mu      sync.Mutex
	clients map[string]*client // by host, and how that is reached
	warned  map[string]bool
}

// NewSession begins a session. It sends nothing.
func NewSession(opts Options) *Session {
	if opts.UserAgent == "" {
		opts.UserAgent = "davit"
	}
	switch {
	case opts.Retries == 0:
		opts.Retries = defaultRetries
	case opts.Retries < 0:
		opts.Retries = 0
	}
	return &Session{opts: opts, clients: map[string]*client{}, warned: map[string]bool{}}
}

// Open is the package's Open, in the session.
func (s *Session) Open(reference ref.Reference) (*Repository, error) {
	return s.open(hosts.Endpoint{Registry: reference.Registry, Repository: reference.Repository}, reference.Scheme)
}

// OpenEndpoint opens a repository at an endpoint, a mirror's for example. What
// the endpoint's Host says goes before Options.
func (s *Session) OpenEndpoint(at hosts.Endpoint) (*Repository, error) {
	return s.open(at, "")
}

// Route is where what reference names may be asked for: what Options.Routes
// says, else at the registry alone. The scheme of a URL holds for the origin.
// Where a file forbids the registry, the error names the file and wraps
// ErrBlocked.
func (s *Session) Route(reference ref.Reference) (hosts.Route, error) {
	var route hosts.Route
	if s.opts.Routes != nil {
		var err error
		if route, err = s.opts.Routes(reference.Registry, reference.Repository); err != nil {
			return hosts.Route{}, fmt.Errorf("find where %s is to be had: %w", reference.Name(), err)
		}
	}
	if route.Blocked != "" {
		return hosts.Route{}, fmt.Errorf("%s: %w by %s", reference.Name(), ErrBlocked, route.Blocked)
	}
	if route.Origin.Registry == "" {
		route.Origin.Registry, route.Origin.Repository = reference.Registry, reference.Repository
	}
	if at := &route.Origin; reference.Scheme != "" && at.Registry == reference.Registry {
		if at.Host.Scheme != "" && at.Host.Scheme != reference.Scheme {
			return hosts.Route{}, fmt.Errorf("find where %s is to be had: it was written with %s://, but %s says %s",
				reference.Name(), reference.Scheme, sourceOf(at.Host, "its configuration"), at.Host.Scheme)
		}
		at.Host.Scheme = reference.Scheme
	}
	return route, nil
}

// Close gives up the connections that are idle. Requests may still be made.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		c.transports.closeIdle()
	}
	return nil
}

// open opens a repository; written is the scheme that its reference has.
func (s *Session) open(at hosts.Endpoint, written string) (*Repository, error) {
	named := orasregistry.Reference{Registry: at.Registry, Repository: at.Repository}
	if err := errors.Join(named.ValidateRegistry(), named.ValidateRepository()); err != nil {
		return nil, fmt.Errorf("open repository %q: not a registry and a repository", oneline.Clean(at.Registry+"/"+at.Repository, 200))
	}
	c, err := s.client(at.Registry, at.Host, written)
	if err != nil {
		return nil, fmt.Errorf("open repository %s/%s: %w", at.Registry, at.Repository, err)
	}
	r := &Repository{
		name: at.Repository, client: c,
		auth: &authorizer{client: c, registry: at.Registry, repository: at.Repository},
	}
	c.join(r.auth)
	return r, nil
}

// client is the one for a registry, as first and then Options have it reached.
func (s *Session) client(registry string, first hosts.Host, written string) (*client, error) {
	host := strings.ToLower(ref.Reference{Registry: registry}.Host())
	reached, err := s.reached(host, first, written)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%q %q %v %v %q %q", host, reached.Scheme, reached.Insecure, reached.Plain, reached.CAFiles, reached.KeyPairs)
	s.mu.Lock()
	c := s.clients[key]
	if c == nil {
		if c, err = s.newClient(host, reached); err == nil {
			s.clients[key] = c
		}
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	switch {
	case !reached.Insecure:
	case reached.Scheme == "http":
		s.warn(host + " is asked in plain HTTP" + bySource(reached))
	default:
		s.warn("the certificate of " + host + " is not checked" + bySource(reached))
	}
	return c, nil
}

func (s *Session) newClient(host string, reached hosts.Host) (*client, error) {
	c := &client{
		opts:    s.opts,
		session: s,
		host:    host,
		backoff: 250 * time.Millisecond,
	}
	c.opts.Hosts = func(asked string) (hosts.Host, error) {
		switch {
		case strings.EqualFold(asked, host):
			return reached, nil
		case s.opts.Hosts == nil:
			return hosts.Host{}, nil
		}
		return s.opts.Hosts(asked)
	}
	c.scheme = newScheme(host, reached)
	c.scheme.fallen = func() {
		if reached.Plain {
			s.warn(host + " does not speak TLS; going on in plain HTTP" + bySource(reached))
		}
	}
	var err error
	c.transports, err = newTransports(host, reached, c.opts, c.checkDialed)
	return c, err
}

// reached is how host is reached: as first says, then Options.
func (s *Session) reached(host string, first hosts.Host, written string) (hosts.Host, error) {
	var found hosts.Host
	if s.opts.Hosts != nil {
		var err error
		if found, err = s.opts.Hosts(host); err != nil {
			return hosts.Host{}, fmt.Errorf("find how %s is reached: %w", host, err)
		}
	}
	reached := hosts.Host{
		Scheme:   first.Scheme,
		Insecure: first.Insecure || found.Insecure || s.opts.Insecure,
		Plain:    first.Plain || found.Plain,
		CAFiles:  slices.Concat(first.CAFiles, found.CAFiles),
		KeyPairs: slices.Concat(first.KeyPairs, found.KeyPairs),
		Source:   found.Source,
	}
	if first.Scheme != "" || first.Insecure || first.Plain {
		reached.Source = first.Source
	}
	if reached.Scheme != "" {
		return reached, nil // nothing goes before what an endpoint says
	}
	reached.Scheme = found.Scheme
	const conflict = "plain HTTP is asked for%s, but %s"
	switch {
	case s.opts.PlainHTTP && written == "https":
		return hosts.Host{}, fmt.Errorf(conflict, "", "the reference is an https:// URL")
	case s.opts.PlainHTTP && found.Scheme == "https":
		return hosts.Host{}, fmt.Errorf(conflict, "", sourceOf(found, "the configuration")+" says https for "+host)
	case found.Scheme == "http" && written == "https":
		return hosts.Host{}, fmt.Errorf(conflict, bySource(found), "the reference is an https:// URL")
	case found.Scheme == "https" && written == "http":
		return hosts.Host{}, fmt.Errorf(conflict, " by the reference", sourceOf(found, "the configuration")+" says https for "+host)
	case s.opts.PlainHTTP:
		reached.Scheme = "http"
	case written != "":
		reached.Scheme = written
	}
	return reached, nil
}

// warn sends a warning, once a session.
func (s *Session) warn(text string) {
	s.mu.Lock()
	known := s.warned[text]
	s.warned[text] = true
	s.mu.Unlock()
	if !known {
		s.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: text})
	}
}

func sourceOf(h hosts.Host, otherwise string) string {
	if h.Source != "" {
		return h.Source
	}
	return otherwise
}

func bySource(h hosts.Host) string {
	if h.Source != "" {
		return " (" + h.Source + ")"
	}
	return ""
}
