package registry

import (
	"sync"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/ref"
)

// Session is what the repositories of one command share. Its methods may be
// called from many goroutines at once.
type Session struct {
	opts Options

	mu   sync.Mutex
	open []*Repository
}

// NewSession begins a session. It sends nothing.
func NewSession(opts Options) *Session { return &Session{opts: opts} }

// Open is the package's Open, in the session.
func (s *Session) Open(reference ref.Reference) (*Repository, error) {
	r, err := Open(reference, s.opts)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, r)
	return r, nil
}

// OpenEndpoint opens a repository at an endpoint, a mirror's for example. What
// the endpoint's Host says goes before Options.Hosts.
func (s *Session) OpenEndpoint(at hosts.Endpoint) (*Repository, error) {
	opts := s.opts
	opts.PlainHTTP = opts.PlainHTTP || at.Host.Scheme == "http"
	opts.Insecure = opts.Insecure || at.Host.Insecure
	r, err := Open(ref.Reference{Scheme: at.Host.Scheme, Registry: at.Registry, Repository: at.Repository}, opts)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, r)
	return r, nil
}

// Close gives up the connections that are idle.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.open {
		_ = r.Close()
	}
	return nil
}

// Route is where a repository's content may be asked for: as Options.Routes
// says, with the scheme that the reference has.
func (s *Session) Route(reference ref.Reference) (hosts.Route, error) {
	route := hosts.Route{Origin: hosts.Endpoint{Registry: reference.Registry, Repository: reference.Repository}}
	if s.opts.Routes != nil {
		var err error
		if route, err = s.opts.Routes(reference.Registry, reference.Repository); err != nil {
			return route, err
		}
	}
	if reference.Scheme != "" {
		route.Origin.Host.Scheme = reference.Scheme
	}
	return route, nil
}
