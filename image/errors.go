package image

import "errors"

// What callers branch on. Errors of every room wrap one of these where it is
// the cause.
var (
	// ErrNotFound: the image, tag, platform or blob is not there.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry refused the credential, or wants one.
	ErrUnauthorized = errors.New("not authorized")
	// ErrVerification: content is not what its digest, size or media type say.
	ErrVerification = errors.New("verification failed")
)
