package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/davit-cli/davit/image"
)

// A layer's descriptor may name URLs where it stands, so that the registry need
// not hold it (OCI image-spec, descriptor.md): a foreign layer. Whoever made the
// image has chosen them. Requests for them carry nothing of the user's, and go
// only where policy allows (policy.go); what they bring is verified as all blobs
// are.

// ForeignError is a foreign layer that neither the registry nor one of its URLs
// gives. It wraps all of their errors; but where a URL may give it later only
// what that one failed of, so that it does not count as not found.
type ForeignError struct {
	Registry error   // the registry's refusal
	URLs     []error // in the descriptor's order; those that policy refuses wrap ErrForeignURL
}

// maxForeignTold is how many URLs' errors the text tells.
const maxForeignTold = 3

func (e *ForeignError) Error() string {
	var text strings.Builder
	text.WriteString(e.Registry.Error())
	for i, err := range e.URLs {
		if i == maxForeignTold {
			fmt.Fprintf(&text, "; and %d URLs more", len(e.URLs)-i)
			break
		}
		text.WriteString("; " + err.Error())
	}
	return text.String()
}

// Unwrap is what the text tells, or why to try again.
func (e *ForeignError) Unwrap() []error {
	var passing []error
	for _, err := range e.URLs {
		var retry *image.RetryError
		var failed *Error
		if errors.As(err, &retry) || errors.As(err, &failed) && failed.transient {
			passing = append(passing, err)
		}
	}
	if len(passing) > 0 {
		return passing
	}
	return append([]error{e.Registry}, e.URLs...)
}

// lacks tells whether a registry's refusal may be of a blob that it does not
// hold. 403 is how stores speak of what is not there to those who may not list
// it, and proxies of what they do not pass on. 401 is not about the blob but
// about who asks, and what may pass is the registry's to mend.
func lacks(status int) bool {
	switch status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

const foreignStep = "get it by its URL"

// openForeign sends a GET to the blob's URLs, in their order, until one gives
// it. refused is why the registry does not. An error is a *ForeignError, or
// ctx's own.
func (c *client) openForeign(ctx context.Context, blob image.Descriptor, header http.Header, refused error) (*http.Response, location, error) {
	failed := &ForeignError{Registry: refused}
	for _, text := range blob.URLs {
		resp, at, err := c.openURL(ctx, text, blob.Size, header)
		if err == nil || ctx.Err() != nil {
			return resp, at, err
		}
		failed.URLs = append(failed.URLs, err)
	}
	return nil, location{}, failed
}

// openURL sends a GET for a blob of so many bytes to one of its URLs.
func (c *client) openURL(ctx context.Context, text string, size int64, header http.Header) (*http.Response, location, error) {
	u, err := c.foreignURL(text)
	if err != nil {
		return nil, location{}, err
	}
	resp, at, err := c.get(ctx, foreignStep, location{url: u, foreign: true}, header, false)
	switch {
	case err != nil:
		return nil, at, err
	case meansNoRanges(resp.StatusCode, header):
		return resp, at, nil
	case resp.StatusCode/100 != 2:
		return nil, at, c.refusal(foreignStep, resp, at)
	}
	if told := toldSize(resp); told >= 0 && told != size {
		discard(resp)
		// The page that says that it is gone, most likely.
		return nil, at, c.failure(foreignStep, resp.Request, fmt.Errorf("it sends something of %d bytes, not of %d", told, size))
	}
	return resp, at, nil
}

// toldSize is how large a blob is by an answer that gives it or a range of it;
// -1 where the answer does not tell.
func toldSize(resp *http.Response) int64 {
	if resp.StatusCode != http.StatusPartialContent {
		return resp.ContentLength
	}
	if _, _, total, ok := parseContentRange(resp.Header.Get("Content-Range")); ok {
		return total
	}
	return -1
}

// foreignURL is a foreign layer's URL, where policy allows it.
func (c *client) foreignURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, c.refuseURL(foreignStep, "", errors.New("it is no URL with a host"))
	case u.User != nil:
		return nil, c.refuseURL(foreignStep, u.Host, errors.New("it carries a user"))
	}
	if err := c.checkURL(u); err != nil {
		return nil, c.refuseURL(foreignStep, u.Host, err)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// refuseURL is the error for a foreign layer's URL that policy does not allow.
func (c *client) refuseURL(step, host string, err error) error {
	return &Error{Step: step, Host: c.public(host, 200), Message: c.public(err.Error(), 200), causes: []error{ErrForeignURL, err}}
}
