package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// How long requests that push may take. There is no limit on the whole of one.
const (
	// sendTime is how long the registry may take no byte of a body.
	sendTime = time.Minute
	// answerTime is how long an answer may take after the last byte.
	answerTime = time.Minute
	// commitTime is that of an answer for which the registry reads what it has,
	// to verify it, and moves it to its place.
	commitTime = 15 * time.Minute
)

// payload is a request's body, of so many bytes. A nil one is none.
type payload struct {
	size int64
	// open gives the bytes, from the first, each time that the request is sent.
	open func() (io.Reader, error)
	// watch is put off by each read, in the end by after.
	watch *time.Timer
	after time.Duration

	mu    sync.Mutex
	ended bool // nothing of it is read any more
}

// errEnded is a body that is read after its request has ended.
var errEnded = errors.New("the request has ended")

func bytesPayload(b []byte) *payload {
	return &payload{size: int64(len(b)), open: func() (io.Reader, error) { return bytes.NewReader(b), nil }}
}

func (p *payload) addTo(req *http.Request) error {
	if p == nil {
		return nil
	}
	req.ProtoMajor, req.ProtoMinor = 1, 1 // or Expect is not heeded
	req.Body, req.ContentLength = http.NoBody, p.size
	if p.size == 0 {
		return nil
	}
	req.GetBody = func() (io.ReadCloser, error) {
		content, err := p.open()
		if err != nil {
			return nil, err
		}
		return io.NopCloser(&watched{payload: p, content: content, left: p.size}), nil
	}
	var err error
	req.Body, err = req.GetBody()
	return err
}

// watched puts off a payload's timer with each read, which is not timed itself.
type watched struct {
	*payload
	content io.Reader
	left    int64
}

func (w *watched) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return 0, errEnded
	}
	w.watch.Stop() // where content is long in coming, the registry is not stuck
	n, err := w.content.Read(b[:min(int64(len(b)), max(w.left, 0))])
	if w.left -= int64(n); w.left <= 0 {
		w.watch.Reset(w.after)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}
	w.watch.Reset(sendTime)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// end lets nothing of the body be read any more: a transport goes on with that
// while an answer came early.
func (p *payload) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// push sends a request that pushes, and reads its answer: a 2xx, or else a
// refusal. patience is how long to wait for it once all is sent. Nothing of body
// is read after push has returned. An error may be an image.RetryError.
func (c *client) push(ctx context.Context, step, method string, at location, header http.Header, body *payload, patience time.Duration) (*http.Response, location, error) {
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(patience, func() { cancel(errStalled) })
	defer watch.Stop()
	if body != nil {
		body.watch, body.after = watch, patience
		watch.Reset(max(patience, sendTime))
		defer body.end()
	}
	if header == nil {
		header = http.Header{}
	}
	resp, reached, err := c.follow(within, step, method, at, header, true, body)
	if err == nil {
		defer func() { resp.Request = resp.Request.WithContext(ctx) }()
	}
	switch {
	case err == nil && resp.StatusCode/100 == 2:
		discard(resp)
		return resp, reached, nil
	case err == nil:
		return resp, reached, c.refusal(step, resp, reached)
	case ctx.Err() == nil && errors.Is(context.Cause(within), errStalled):
		return nil, at, &Error{Step: step, Method: method, Host: at.url.Host, Path: at.url.Path,
			Message: errStalled.Error(), transient: true, causes: []error{errStalled, err}}
	}
	return nil, at, err
}

// pushedTo is where a redirect of a push leads. It is followed with method and
// body, to where policy allows.
func (c *client) pushedTo(step string, resp *http.Response, at location, next *url.URL) (location, error) {
	if resp.StatusCode == http.StatusSeeOther {
		return at, c.failure(step, resp.Request, fmt.Errorf("it redirects by %s, which no content follows", statusText(resp.StatusCode)))
	}
	return c.beside(step, at, next)
}

// beside is the URL next that the registry, or the host at, has content sent
// to. The registry's own may be written with the scheme that a proxy before it
// has taken away. A credential goes along within the registry alone. Errors wrap
// ErrUploadURL.
func (c *client) beside(step string, at location, next *url.URL) (location, error) {
	if strings.EqualFold(next.Host, c.host) && next.Scheme == "http" && c.scheme.now() == "https" {
		next.Scheme = "https"
	}
	found := location{url: next, auth: at.auth, push: true}
	if c.atRegistry(next) {
		return found, nil
	}
	found.auth = nil
	err := c.checkURL(next)
	if err == nil && at.url.Scheme == "https" && next.Scheme == "http" {
		err = policyError("plain HTTP is refused after HTTPS")
	}
	if err != nil {
		return found, &Error{Step: step, Host: c.public(next.Host, 200), Message: c.public(err.Error(), 200), causes: []error{ErrUploadURL, err}}
	}
	return found, nil
}
