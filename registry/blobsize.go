package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// BlobSize is the size in bytes of a blob, as the registry tells it, by a HEAD
// (OCI distribution-spec, "Checking if content exists in the registry"), with
// retries of what may pass. Where that is refused as if for the method, or says
// nothing, by a GET of the first byte. Errors wrap image.ErrNotFound,
// image.ErrUnauthorized, image.ErrVerification or a sentinel of this package,
// or are ctx's own.
func (r *Repository) BlobSize(ctx context.Context, d digest.Digest) (int64, error) {
	if _, err := r.blobStep(image.Descriptor{Digest: d}); err != nil {
		return 0, err
	}
	step := "get size of blob " + r.name + "@" + d.String()
	resp, err := r.head(ctx, step, r.at(r.blobPath(d.String())), blobHeader(), false)
	switch {
	case err != nil && (ctx.Err() != nil || !r.mayBeOfMethod(err, step)):
		return 0, err
	case err == nil:
		told := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
		if image.CheckDigest(told) == nil {
			err = checkTold(told, d)
		}
		size := resp.ContentLength
		if err == nil && size > 0 && resp.Header.Get("Content-Encoding") == "" {
			err = checkSize(size)
			if err == nil {
				return size, nil
			}
		}
		if err != nil {
			return 0, fmt.Errorf("%s from %s: %w", step, resp.Request.URL.Host, err)
		}
	}
	var size int64
	err = r.client.retry(ctx, func() error {
		size, err = r.sizeByGET(ctx, d)
		return err
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

// sizeByGET opens the first byte of a blob, or the whole where there are no
// ranges, and reads neither.
func (r *Repository) sizeByGET(ctx context.Context, d digest.Digest) (int64, error) {
	got, err := r.OpenRange(ctx, image.Descriptor{Digest: d, Size: -1}, 0, 1)
	var noRange *image.NoRangeError
	if err == nil && got.Total < 0 {
		_ = got.Body.Close()
	}
	if errors.As(err, &noRange) || err == nil && got.Total < 0 {
		got, err = r.OpenRange(ctx, image.Descriptor{Digest: d}, 0, 0)
	}
	if err != nil {
		return 0, err
	}
	_ = got.Body.Close()
	if got.Total < 0 {
		return 0, &Error{Step: "get size of blob " + r.name + "@" + d.String(), Method: http.MethodGet, Host: got.Host, Message: "it does not tell"}
	}
	if err := checkSize(got.Total); err != nil {
		return 0, fmt.Errorf("get size of blob %s@%s from %s: %w", r.name, d, got.Host, err)
	}
	return got.Total, nil
}

// checkSize says whether a blob may be of that size. The error wraps
// image.ErrVerification.
func checkSize(size int64) error {
	if size > image.MaxImageSize {
		return fmt.Errorf("%w: it is to have %d bytes, more than %d", image.ErrVerification, size, int64(image.MaxImageSize))
	}
	return nil
}
