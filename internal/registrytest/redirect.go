package registrytest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
)

// Redirect sends GETs of blobs to signed URLs on the CDN:
// /blobs/<digest>?sig=…. There a GET is answered 403 once the URL has expired,
// and a HEAD always, as S3 does with URLs signed for GET.
type Redirect struct {
	// Status is the redirect's, 0 for 307.
	Status int
	// Lifetime is how long a URL is good, 0 for ever. See also ExpireURLs.
	Lifetime time.Duration
	// Uses is how many GETs a URL is good for, 0 for any number.
	Uses int
	// Host is the CDN's host name in the URL, "" for 127.0.0.1; "localhost"
	// makes it another host than the registry's.
	Host string
	// Hops is how many further redirects, each to the CDN itself, come before
	// the content.
	Hops int
	// Heads redirects HEADs too.
	Heads bool
}

type signedURLs struct {
	count uint64
	live  map[string]*signedURL // by signature
}

type signedURL struct {
	blob    digest.Digest
	expires time.Time // zero for never
	uses    int       // that are left, -1 for any number
}

func (s *Server) redirect(w http.ResponseWriter, r *http.Request, o Options) {
	d, _ := blobOf(r)
	if _, _, ok := s.Content.Blob(d); !ok {
		s.Content.ServeHTTP(w, r) // which says what is wrong
		return
	}
	signed := &signedURL{blob: d, uses: -1}
	if o.Redirect.Uses > 0 {
		signed.uses = o.Redirect.Uses
	}
	if o.Redirect.Lifetime > 0 {
		signed.expires = time.Now().Add(o.Redirect.Lifetime)
	}
	s.mu.Lock()
	s.urls.count++
	sig := fmt.Sprintf("%016x", mix(s.urls.count))
	if s.urls.live == nil {
		s.urls.live = map[string]*signedURL{}
	}
	s.urls.live[sig] = signed
	s.mu.Unlock()

	query := url.Values{"sig": {sig}}
	if o.Redirect.Hops > 0 {
		query.Set("hops", strconv.Itoa(o.Redirect.Hops))
	}
	s.redirectTo(w, o, d, query)
}

func (s *Server) redirectTo(w http.ResponseWriter, o Options, d digest.Digest, query url.Values) {
	target := url.URL{Scheme: "http", Host: s.hosts[CDN], Path: "/blobs/" + d.String(), RawQuery: query.Encode()}
	if s.secure[CDN] {
		target.Scheme = "https"
	}
	if o.Redirect != nil && o.Redirect.Host != "" {
		target.Host = net.JoinHostPort(o.Redirect.Host, portOf(target.Host))
	}
	status := http.StatusTemporaryRedirect
	if o.Redirect != nil && o.Redirect.Status != 0 {
		status = o.Redirect.Status
	}
	w.Header().Set("Location", target.String())
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

func portOf(hostport string) string {
	_, port, err := net.SplitHostPort(hostport)
	if err != nil {
		panic(err) // listeners' addresses always split
	}
	return port
}

func (s *Server) serveCDN(w *response, r *http.Request, o Options) {
	d, ok := blobOf(r)
	query := r.URL.Query()
	if r.Header.Get("Authorization") != "" {
		cdnError(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
		return
	}
	if !ok || r.Method != http.MethodGet {
		cdnError(w, http.StatusForbidden, "SignatureDoesNotMatch", "The URL is signed for GET")
		return
	}
	hops, _ := strconv.Atoi(query.Get("hops")) // none: 0
	if !s.useURL(query.Get("sig"), d, hops == 0) {
		cdnError(w, http.StatusForbidden, "AccessDenied", "Request has expired")
		return
	}
	if hops > 0 {
		query.Del("hops")
		if hops > 1 {
			query.Set("hops", strconv.Itoa(hops-1))
		}
		s.redirectTo(w, o, d, query)
		return
	}
	s.serveBlob(w, r, o)
}

// useURL tells whether a signature is good for a blob, and counts its use.
func (s *Server) useURL(sig string, d digest.Digest, count bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.urls.live[sig]
	if u == nil || u.blob != d || u.uses == 0 || !u.expires.IsZero() && time.Now().After(u.expires) {
		return false
	}
	if count && u.uses > 0 {
		u.uses--
	}
	return true
}

// ExpireURLs lets every URL that was signed so far expire.
func (s *Server) ExpireURLs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urls.live = nil
}

// cdnError answers as S3 does.
func cdnError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		"<Error><Code>"+code+"</Code><Message>"+message+"</Message></Error>")
}
