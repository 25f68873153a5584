package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/davit-cli/davit/internal/oneline"
)

const (
	// pageSize is how many entries a page is asked for. No registry that we
	// know refuses so many, and most give far fewer where they are not asked.
	pageSize = 1000
	// What bounds a list that never ends.
	maxPages     = 10_000
	maxListBytes = 64 << 20 // of names
)

// list is one that a registry gives page by page, each with a link to the next
// (OCI distribution-spec, "Listing Tags").
type list struct {
	client *client
	auth   *authorizer
	step   string
	// check says whether an answer is a page of the list.
	check func(resp *http.Response, body []byte) error
	size  int // entries that the first page is asked for; 0: not told
	limit int // bytes of all pages and their links

	links map[string]bool // that were followed
	bytes int
}

// page is an HTTP client for oras-go, which asks it for one page after the
// other. The first is asked for with a size, unless the registry refuses that;
// the others as the links say.
func (l *list) page(asked *http.Request) (*http.Response, error) {
	link := asked.URL.RequestURI()
	switch {
	case l.links[link]:
		return nil, l.client.failure(l.step, asked, errors.New("its link to the next page leads back to one that was listed"))
	case len(l.links) == maxPages:
		return nil, l.client.failure(l.step, asked, fmt.Errorf("the list has more than %d pages", maxPages))
	case l.links == nil:
		l.links = map[string]bool{}
	}
	first := len(l.links) == 0
	l.links[link] = true
	sized := asked
	if first && l.size > 0 {
		sized = asked.Clone(asked.Context())
		sized.URL.RawQuery = "n=" + strconv.Itoa(l.size)
	}
	resp, body, err := l.client.fetch(l.step, sized, l.auth)
	if sized != asked && statusOf(err) == http.StatusBadRequest {
		resp, body, err = l.client.fetch(l.step, asked, l.auth)
	}
	if err != nil {
		return nil, err
	}
	if l.bytes += len(body) + len(link); l.bytes > l.limit {
		return nil, l.client.failure(l.step, resp.Request, tooLargeError(l.limit))
	}
	if err := l.check(resp, body); err != nil {
		return nil, l.client.failure(l.step, resp.Request, err)
	}
	next, err := l.client.nextPage(resp)
	if err != nil {
		return nil, l.client.failure(l.step, resp.Request, err)
	}
	header := http.Header{}
	if next != "" {
		header.Set("Link", "<"+next+">")
	}
	return asWhole(asked, header, body), nil
}

// begun tells whether a page beyond the first was asked for.
func (l *list) begun() bool { return len(l.links) > 1 }

// nextPage is the path and query of the next page, or empty after the last. It
// is asked of the registry's own origin, whatever the link says: a registry
// behind a proxy may name itself with another scheme. Another host or port is
// an error.
func (c *client) nextPage(resp *http.Response) (string, error) {
	link := strings.TrimSpace(resp.Header.Get("Link"))
	if link == "" {
		return "", nil
	}
	target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	next, err := resp.Request.URL.Parse(target)
	if !ok || !strings.HasPrefix(link, "<") || err != nil ||
		next.Scheme != "http" && next.Scheme != "https" || strings.HasPrefix(next.EscapedPath(), "//") {
		return "", errors.New("its link to the next page is malformed")
	}
	if !sameHost(next, resp.Request.URL) && !sameHost(next, &url.URL{Scheme: next.Scheme, Host: c.host}) {
		return "", fmt.Errorf("its link to the next page leads to another host, %s", oneline.Clean(next.Host, 100))
	}
	return next.RequestURI(), nil
}

// sameHost tells whether host and port are equal as they are written.
func sameHost(a, b *url.URL) bool { return strings.EqualFold(a.Host, b.Host) }
