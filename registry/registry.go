// Package registry is a client of the OCI distribution API: it resolves
// references, reads manifests and tags, and opens ranges of blobs.
package registry

import (
	"net/http"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
)

// Options tell how registries are reached. The zero value works: anonymous,
// HTTPS (and on loopback HTTP where there is no HTTPS), the system's CAs.
type Options struct {
	// Credentials finds the credential for a registry. Nil: anonymous.
	Credentials credential.Provider
	// PlainHTTP speaks HTTP to the registry, never HTTPS.
	PlainHTTP bool
	// Insecure accepts any certificate of the registry.
	Insecure bool
	// UserAgent is what requests call themselves. Empty: "davit".
	UserAgent string
	// Retries is how often in a row a metadata request that may pass (429,
	// 5xx, a cut connection) is tried again. 0: five. Negative: never.
	Retries int
	// Transport makes the connections. Nil: one made for davit's work, with
	// HTTP/1.1 and proxies from the environment.
	Transport http.RoundTripper
	// Trace receives a line for each request and answer, without secrets. May be nil.
	Trace func(line string)
	// Events receives steps and warnings. May be nil.
	Events image.EventFunc
}
