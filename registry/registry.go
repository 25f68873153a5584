// Package registry is a client of the OCI distribution API: it resolves
// references, reads manifests, tags, referrers and configs, opens ranges of
// blobs, and pushes blobs and manifests.
//
// Manifests and lists go through oras-go's Repository. Below it stands a client
// of our own that all requests share: it answers challenges, follows
// redirects without taking a credential along, and turns every refusal into an
// *Error.
package registry

import (
	"net/http"
	"net/url"

	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// Options tell how registries are reached. The zero value works: anonymous,
// HTTPS (and on loopback HTTP where there is no HTTPS), the system's CAs.
type Options struct {
	// Credentials finds the credential for a registry. Nil: anonymous. It is
	// asked when the registry first wants a credential, and once only.
	Credentials credential.Provider
	// PlainHTTP speaks HTTP to registries, never HTTPS.
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
	// check of a realm's or foreign URL's address after name resolution are the
	// Transport's to do.
	Transport http.RoundTripper
	// Trace receives a line for each request and answer, without secrets. It
	// is called from many goroutines at once. May be nil.
	Trace func(line string)
	// Events receives steps and warnings. May be nil.
	Events image.EventFunc
}

const defaultRetries = 5

// Repository is one repository of a registry. It implements image.Source; its
// methods may be called from many goroutines at once. The places that blobs
// were redirected to are kept for as long as the Repository is; connections and
// tokens are its session's.
type Repository struct {
	name   string // library/alpine
	client *client
	auth   *authorizer
	blobs  locations
	pushes pushes
}

var (
	_ image.Source         = (*Repository)(nil)
	_ image.TagLister      = (*Repository)(nil)
	_ image.Describer      = (*Repository)(nil)
	_ image.ReferrerLister = (*Repository)(nil)
	_ image.Target         = (*Repository)(nil)
	_ image.Mounter        = (*Repository)(nil)
)

// Open makes a client for the repository that reference names, in a session of
// its own. It sends nothing yet. HTTP is spoken where the reference was an
// http:// URL, or Options.PlainHTTP or Options.Hosts prescribe it; on loopback,
// and where Options.Hosts calls the host insecure, where the host does not
// speak TLS; else HTTPS. It is never a fallback for a certificate that is not
// trusted.
func Open(reference ref.Reference, opts Options) (*Repository, error) {
	return NewSession(opts).Open(reference)
}

// Close leaves the session, and gives up the connections that are idle where no
// other repository uses them. Requests may still be made.
func (r *Repository) Close() error {
	r.client.leave(r.auth)
	return nil
}

// at is a path on the registry, where the repository's credential may be shown.
// Its scheme holds once the first answer has come.
func (r *Repository) at(path string) location { return r.client.registryURL(path, r.auth) }

// through is oras-go's repository with do as its HTTP client.
func (r *Repository) through(do doFunc) *remote.Repository {
	return &remote.Repository{
		Client:             do,
		Reference:          orasregistry.Reference{Registry: r.client.host, Repository: r.name},
		ManifestMediaTypes: manifestTypes,
	}
}

// doFunc is a remote.Client.
type doFunc func(*http.Request) (*http.Response, error)

func (do doFunc) Do(req *http.Request) (*http.Response, error) { return do(req) }
