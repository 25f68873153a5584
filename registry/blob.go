package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/davit-cli/davit/image"
)

// OpenRange opens n bytes of a blob from offset off, with one attempt: only
// challenges, redirects and signed URLs that have expired are seen to inside.
// The whole blob (off 0, n its size) is asked for without a range, so that
// this is what to call after an image.NoRangeError.
//
// The first request for a blob finds out where the registry redirects to;
// requests that come meanwhile wait for it, and later ones go straight there.
// Where the registry does not hold the blob, its descriptor's URLs are asked.
//
// Errors: an image.NoRangeError where the host answers a range with something
// else; an image.RetryError where it asks for a pause or is in trouble; an
// *Error that wraps image.ErrNotFound, image.ErrUnauthorized or a sentinel of
// this package; a *ForeignError of such; ctx's own.
func (r *Repository) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	step, err := r.blobStep(blob)
	if err != nil {
		return nil, err
	}
	header := blobHeader()
	ranged := off != 0 || n != blob.Size
	if ranged {
		if off < 0 || n <= 0 || off+n < 0 {
			return nil, fmt.Errorf("%s: there is no range of %d bytes from %d", step, n, off)
		}
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	resp, at, err := r.openBlob(ctx, step, blob, header)
	if err != nil {
		return nil, err
	}
	got, err := readRange(resp, off, n, ranged)
	switch {
	case err != nil:
		_ = resp.Body.Close()
		failure := r.client.failure(step, resp.Request, err)
		if ranged {
			failure = &image.NoRangeError{Host: at.url.Host, Err: failure}
		}
		return nil, failure
	case got != nil:
		return got, nil
	}
	failure := r.client.refusal(step, resp, at)
	if meansNoRanges(resp.StatusCode, header) {
		failure = &image.NoRangeError{Host: at.url.Host, Err: failure}
	}
	return nil, failure
}

// Blob returns a small blob, of at most image.MaxConfigSize bytes, with retries
// of what may pass. Where its bytes have another digest they are asked for once
// more; an answer that tells another size is final. Both are errors that wrap
// image.ErrVerification. Other errors wrap image.ErrNotFound,
// image.ErrUnauthorized or a sentinel of this package, or are ctx's own.
func (r *Repository) Blob(ctx context.Context, blob image.Descriptor) ([]byte, error) {
	step, err := r.blobStep(blob)
	if err != nil {
		return nil, err
	}
	if blob.Size < 0 || blob.Size > image.MaxConfigSize {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, which are not for memory", step, image.ErrVerification, blob.Size)
	}
	var body []byte
	wrong := false // the bytes, once
	err = r.client.retry(ctx, func() error {
		resp, at, err := r.openBlob(ctx, step, blob, blobHeader())
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return r.client.refusal(step, resp, at)
		}
		defer func() { _ = resp.Body.Close() }()
		if told := resp.ContentLength; told >= 0 && told != blob.Size {
			return fmt.Errorf("%s from %s: %w: it sends %d bytes, not %d", step, at.url.Host, image.ErrVerification, told, blob.Size)
		}
		if body, err = readSome(resp.Body, int(blob.Size)); err != nil {
			return r.client.failure(step, resp.Request, err)
		}
		if err = checkBytes(blob.Digest, body); err == nil {
			return nil
		}
		err = fmt.Errorf("%s from %s: %w", step, at.url.Host, err)
		if wrong {
			return err
		}
		wrong = true
		return &image.RetryError{Err: err}
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// blobStep is the step that errors name, of a blob whose digest may become
// part of a URL.
func (r *Repository) blobStep(blob image.Descriptor) (string, error) {
	if err := image.CheckDigest(blob.Digest); err != nil {
		return "", fmt.Errorf("get blob of %s: %w", r.name, err)
	}
	return "get blob " + r.name + "@" + blob.Digest.String(), nil
}

// blobHeader asks for the bytes as they are, which digests name.
func blobHeader() http.Header { return http.Header{"Accept-Encoding": {"identity"}} }

// openBlob sends a GET to where the blob is. The answer may be a refusal.
func (r *Repository) openBlob(ctx context.Context, step string, blob image.Descriptor, header http.Header) (*http.Response, location, error) {
	digest := blob.Digest.String()
	for fresh := false; ; fresh = true {
		found, mine, err := r.blobs.find(ctx, digest)
		if err != nil {
			return nil, found, err
		}
		if mine != nil {
			return r.searchBlob(ctx, step, blob, header, mine)
		}
		resp, at, err := r.client.get(ctx, step, found, header, false)
		if err != nil {
			var failed *Error
			if errors.As(err, &failed) && failed.Status == 0 {
				r.blobs.forget(digest, found) // the registry may know a host that answers
			}
			return nil, at, err
		}
		redirected := found.auth == nil || found.url.Path != r.blobPath(digest)
		if fresh || !redirected || !hasExpired(resp.StatusCode) {
			return resp, at, nil
		}
		discard(resp)
		r.blobs.forget(digest, found)
	}
}

// searchBlob asks the registry for the blob, and then its URLs, and ends the
// search with where that led to.
func (r *Repository) searchBlob(ctx context.Context, step string, blob image.Descriptor, header http.Header, mine *search) (*http.Response, location, error) {
	digest := blob.Digest.String()
	resp, at, err := r.client.get(ctx, step, r.at(r.blobPath(digest)), header, false)
	if err == nil && resp.StatusCode/100 != 2 && !meansNoRanges(resp.StatusCode, header) {
		err = r.client.refusal(step, resp, at)
		if len(blob.URLs) > 0 && lacks(resp.StatusCode) {
			resp, at, err = r.client.openForeign(ctx, blob, header, err)
		}
	}
	r.blobs.end(ctx, digest, mine, at, err)
	if err != nil {
		return nil, at, err
	}
	if at.auth == nil {
		text := "blob " + digest + " is served by " + at.url.Host
		if at.foreign {
			text += ", where its URL leads: the registry does not hold it"
		}
		r.client.opts.Events.Send(image.Event{Kind: image.EventStep, Text: text})
	}
	return resp, at, nil
}

func (r *Repository) blobPath(digest string) string {
	return "/v2/" + r.name + "/blobs/" + digest
}

// hasExpired tells whether a signed URL that was good before may be so no more.
func hasExpired(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

// meansNoRanges tells whether a refusal is of the range and not of the blob.
func meansNoRanges(status int, header http.Header) bool {
	return header.Get("Range") != "" && (status == http.StatusRequestedRangeNotSatisfiable || status == http.StatusBadRequest)
}

// readRange says what resp is a range of. It is nil for a refusal. An error
// says that the answer is not one to the question.
func readRange(resp *http.Response, off, n int64, ranged bool) (*image.Range, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return &image.Range{
			Body: resp.Body, Total: resp.ContentLength, Len: resp.ContentLength, Host: resp.Request.URL.Host,
		}, nil
	case http.StatusPartialContent:
	default:
		return nil, nil
	}
	start, end, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case !ok:
		return nil, errors.New("it answers 206 without a readable Content-Range")
	case start != off || ranged && end-start >= n:
		return nil, fmt.Errorf("asked for %d bytes from %d, it sends %d from %d", n, off, end-start+1, start)
	case resp.ContentLength >= 0 && resp.ContentLength != end-start+1:
		return nil, errors.New("its Content-Range and Content-Length contradict each other")
	}
	return &image.Range{Body: resp.Body, Start: start, Total: total, Len: end - start + 1, Host: resp.Request.URL.Host}, nil
}

// parseContentRange reads "bytes 0-99/1234"; total is -1 for "*" (RFC 9110,
// section 14.4).
func parseContentRange(value string) (start, end, total int64, ok bool) {
	unit, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	positions, size, found := strings.Cut(strings.TrimSpace(rest), "/")
	first, last, dashed := strings.Cut(positions, "-")
	start, err1 := parsePosition(first)
	end, err2 := parsePosition(last)
	total, err3 := int64(-1), error(nil)
	if size != "*" {
		total, err3 = parsePosition(size)
	}
	ok = strings.EqualFold(unit, "bytes") && found && dashed && errors.Join(err1, err2, err3) == nil &&
		start <= end && (total < 0 || end < total)
	return start, end, total, ok
}

func parsePosition(digits string) (int64, error) {
	position, err := strconv.ParseUint(digits, 10, 62)
	return int64(position), err //nolint:gosec // it has 62 bits
}
