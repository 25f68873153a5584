package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// What bounds a list that never ends.
const (
	maxTagPages = 10_000
	maxTagBytes = 64 << 20 // of all pages and their links
)

// Tags gives the repository's tags to fn, page by page, in the registry's
// order (OCI distribution-spec, "Listing Tags"). An error of fn ends the list
// and is returned. What is no tag by the specification is left out, with a
// warning: nobody could ask for it. Errors wrap image.ErrNotFound,
// image.ErrUnauthorized or a sentinel of this package.
func (r *Repository) Tags(ctx context.Context, fn func(page []string) error) error {
	step := "list tags of " + r.name
	seen := map[string]bool{} // links
	total := 0
	repository := r.through(func(req *http.Request) (*http.Response, error) {
		link := req.URL.RequestURI()
		if seen[link] {
			return nil, r.client.failure(step, req, errors.New("its link to the next page leads back to one that was listed"))
		}
		seen[link] = true
		resp, body, err := r.fetch(step, req)
		if err != nil {
			return nil, err
		}
		if total += len(body) + len(link); total > maxTagBytes {
			return nil, r.client.failure(step, resp.Request, tooLargeError(maxTagBytes))
		}
		var page struct {
			Tags []string `json:"tags"`
		}
		if json.Unmarshal(body, &page) != nil {
			return nil, r.client.failure(step, resp.Request, errors.New("its answer is no list of tags"))
		}
		header := http.Header{}
		next, err := r.nextPage(resp)
		if err != nil {
			return nil, r.client.failure(step, resp.Request, err)
		}
		if next != "" {
			header.Set("Link", "<"+next+">")
		}
		return asWhole(req, header, body), nil
	})
	warned := false
	return repository.Tags(ctx, "", func(page []string) error {
		tags := make([]string, 0, len(page))
		for _, tag := range page {
			if ref.ValidTag(tag) {
				tags = append(tags, tag)
			} else if !warned {
				warned = true
				r.client.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(
					"%s lists what is no tag for %s: %q", r.client.host, r.name, r.client.public(tag, 60))})
			}
		}
		return fn(tags)
	})
}

// nextPage is the path and query of the next page, or empty after the last. It
// is asked of the registry's own origin, whatever the link says: a registry
// behind a proxy may name itself with another scheme. Another host or port is
// an error.
func (r *Repository) nextPage(resp *http.Response) (string, error) {
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
	if !sameHost(next, resp.Request.URL) && !sameHost(next, &url.URL{Scheme: next.Scheme, Host: r.client.host}) {
		return "", fmt.Errorf("its link to the next page leads to another host, %s", oneline.Clean(next.Host, 100))
	}
	return next.RequestURI(), nil
}

// sameHost tells whether host and port are equal as they are written.
func sameHost(a, b *url.URL) bool { return strings.EqualFold(a.Host, b.Host) }
