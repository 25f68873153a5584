package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/davit-cli/davit/image"
)

// maxMetadata is the size in bytes of the largest manifest or page of a list
// that is taken.
const maxMetadata = image.MaxManifestSize

// fetch sends a metadata request of oras-go's to the registry, with retries, and
// reads the whole answer. What oras-go is given of it is up to the caller: it
// never sees a refusal.
func (c *client) fetch(step string, asked *http.Request, auth *authorizer) (*http.Response, []byte, error) {
	if asked.Method != http.MethodGet || asked.Body != nil && asked.Body != http.NoBody {
		return nil, nil, fmt.Errorf("%s: %s requests are not for reading", step, asked.Method)
	}
	ctx := asked.Context()
	var resp *http.Response
	var body []byte
	err := c.retry(ctx, func() error {
		at := c.registryURL(asked.URL.Path, auth)
		at.url.RawQuery = asked.URL.RawQuery
		var err error
		if resp, at, err = c.get(ctx, step, at, asked.Header, true); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return c.refusal(step, resp, at)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.ContentLength > maxMetadata {
			return c.failure(step, resp.Request, tooLargeError(maxMetadata))
		}
		if body, err = readAll(resp.Body, maxMetadata); err != nil {
			return c.failure(step, resp.Request, err)
		}
		return nil
	})
	return resp, body, err
}

// asWhole is an answer for oras-go: with a length, and a body that is read.
func asWhole(asked *http.Request, header http.Header, body []byte) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		Request: asked,
	}
}
