// Package registry is a client of the OCI distribution API: it resolves
// references, reads manifests, tags and configs, and opens ranges of blobs.
//
// Manifests and tags go through oras-go's Repository. Below it stands a client
// of our own that all requests share: it answers challenges, follows
// redirects without taking a credential along, and turns every refusal into an
// *Error.
package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// Options tell how registries are reached. The zero value works: anonymous,
// HTTPS (and on loopback HTTP where there is no HTTPS), the system's CAs.
type Options struct {
	// Credentials finds the credential for a registry. Nil: anonymous. It is
	// asked when the registry first wants a credential, and once only.
	Credentials credential.Provider
	// PlainHTTP speaks HTTP to the registry, never HTTPS.
	PlainHTTP bool
	// Insecure accepts any certificate of the registry's host, on whatever
	// port, so also where its token realm or its redirects stay on that host.
	Insecure bool
	// Hosts tells how a host (host or host:port, as URLs have it) is reached:
	// the registry's, and those that it leads to. Nil: the zero Host for all.
	Hosts func(host string) (hosts.Host, error)
	// Routes tells where a repository of a registry, named as references name
	// it, is asked for. Nil: at the registry itself.
	Routes func(registry, repository string) (hosts.Route, error)
	// Proxy is the proxy for a request, nil for none; it may have a user and a
	// password, and be of scheme http, https, socks5 or socks5h. Nil: as the
	// environment says (ProxyFromEnvironment).
	Proxy func(*http.Request) (*url.URL, error)
	// UserAgent is what requests call themselves. Empty: "davit".
	UserAgent string
	// Retries is how often in a row a request for a manifest, tags or a config
	// that may pass (429, 5xx, a cut connection) is tried again. 0: five.
	// Negative: never.
	Retries int
	// Transport makes the connections. Nil: one made for davit's work, with
	// HTTP/1.1. With a Transport given, proxies, certificates, Insecure and the
	// check of the realm's address after name resolution are the Transport's to
	// do.
	Transport http.RoundTripper
	// Trace receives a line for each request and answer, without secrets. It
	// is called from many goroutines at once. May be nil.
	Trace func(line string)
	// Events receives steps and warnings. May be nil.
	Events image.EventFunc
}

const defaultRetries = 5

// Repository is one repository of a registry. It implements image.Source; its
// methods may be called from many goroutines at once. Connections, the answer
// to the registry's challenge and the places that blobs were redirected to are
// kept for as long as the Repository is.
type Repository struct {
	name   string // library/alpine
	client *client
	blobs  locations
}

var _ image.Source = (*Repository)(nil)

// Open makes a client for the repository that reference names. It sends
// nothing yet. HTTP is spoken where the reference was an http:// URL or
// Options.PlainHTTP is set; on loopback where the host does not speak TLS; else
// HTTPS. It is never a fallback for a certificate that is not trusted.
func Open(reference ref.Reference, opts Options) (*Repository, error) {
	host := reference.Host()
	named := orasregistry.Reference{Registry: host, Repository: reference.Repository}
	if err := errors.Join(named.ValidateRegistry(), named.ValidateRepository()); err != nil {
		return nil, fmt.Errorf("open repository %q: not a registry and a repository", oneline.Clean(reference.Name(), 200))
	}
	if opts.PlainHTTP && reference.Scheme == "https" {
		return nil, fmt.Errorf("open repository %s: plain HTTP is asked for, but the reference is an https:// URL", reference.Name())
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "davit"
	}
	switch {
	case opts.Retries == 0:
		opts.Retries = defaultRetries
	case opts.Retries < 0:
		opts.Retries = 0
	}
	c := &client{
		opts:    opts,
		host:    strings.ToLower(host),
		backoff: 250 * time.Millisecond,
	}
	c.scheme = newScheme(c.host, reference.Scheme, opts.PlainHTTP)
	reached, err := opts.reached(c.host)
	if err == nil {
		c.transports, err = newTransports(c.host, reached, opts, c.checkDialed)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", reference.Name(), err)
	}
	c.auth = &authorizer{client: c, registry: reference.Registry, repository: reference.Repository}
	if reached.Insecure {
		warnInsecure(opts, c.host, reached.Source)
	}
	return &Repository{name: reference.Repository, client: c}, nil
}

// Close gives up the connections that are idle. Requests may still be made.
func (r *Repository) Close() error {
	r.client.transports.closeIdle()
	return nil
}

// through is oras-go's repository with do as its HTTP client.
func (r *Repository) through(do doFunc) *remote.Repository {
	return &remote.Repository{
		Client:             do,
		Reference:          orasregistry.Reference{Registry: r.client.host, Repository: r.name},
		ManifestMediaTypes: manifestTypes,
		TagListMaxPages:    maxTagPages,
	}
}

// doFunc is a remote.Client.
type doFunc func(*http.Request) (*http.Response, error)

func (do doFunc) Do(req *http.Request) (*http.Response, error) { return do(req) }
