package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// tracedHeaders are the headers of an answer that a trace shows. None of them
// carries a secret but Location, which is shown without its query.
var tracedHeaders = []string{
	"Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest",
	"Range", "Oci-Chunk-Min-Length", "Oci-Subject",
	"Retry-After", "Ratelimit-Limit", "Ratelimit-Remaining", "Www-Authenticate", "Location",
}

func (c *client) traceRequest(req *http.Request) {
	if c.opts.Trace == nil {
		return
	}
	line := req.Method + " " + publicURL(req.URL)
	for _, name := range []string{"Range", "Content-Range"} {
		if value := req.Header.Get(name); value != "" {
			line += " " + value
		}
	}
	if scheme, _, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		line += " (with " + scheme + " credential)"
	}
	c.opts.Trace(c.public(line, 1000))
}

func (c *client) traceFailure(req *http.Request, err error) {
	if c.opts.Trace != nil {
		c.opts.Trace(c.publicFrom(req.URL, req.URL.Host+": "+err.Error(), 1000))
	}
}

func (c *client) traceAnswer(resp *http.Response) {
	if c.opts.Trace == nil {
		return
	}
	line := resp.Request.URL.Host + ": " + statusText(resp.StatusCode)
	for _, name := range tracedHeaders {
		value := resp.Header.Get(name)
		switch {
		case value == "":
			continue
		case name == "Location":
			target, err := resp.Request.URL.Parse(value)
			if err != nil {
				continue
			}
			value = publicURL(target)
		case name == "Www-Authenticate":
			value = publicChallenges(resp.Header)
		}
		line += fmt.Sprintf(", %s: %s", name, c.public(value, 300))
	}
	c.opts.Trace(c.public(line, 2000))
}

// publicURL is u without user, query and fragment, where secrets are.
func publicURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

func publicChallenges(header http.Header) string {
	var parts []string
	for _, challenge := range parseChallenges(header) {
		parts = append(parts, publicChallenge(challenge))
	}
	return strings.Join(parts, "; ")
}

func publicChallenge(c challenge) string {
	text := c.scheme
	if realm, err := url.Parse(c.params["realm"]); err == nil && realm.Host != "" {
		text += " realm=" + publicURL(realm)
	}
	for _, name := range []string{"service", "scope", "error"} {
		if value := c.params[name]; value != "" {
			text += fmt.Sprintf(" %s=%q", name, value)
		}
	}
	return text
}

func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return fmt.Sprintf("%d %s", status, text)
	}
	return fmt.Sprint(status)
}
