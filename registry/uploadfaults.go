package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/davit-cli/davit/image"
)

// smallerPieces are the sizes of pieces that are tried where larger ones are
// refused: below what proxies are set to most often, below GitHub's 4 MiB, and
// below nginx's own 1 MiB.
var smallerPieces = []int64{50_000_000, 10_000_000, 4 << 20, 1_000_000}

// habits are what a registry turned out to want of uploads.
type habits struct {
	piece    int64 // the most that a body may have; 0: anything
	patch    int64 // the most that a piece may have; 0: anything
	taken    int64 // the largest body that it took
	noPieces bool  // a blob must come in one body
	emptyPut bool  // the last request must carry none of the content
	noExpect bool  // it does not know Expect
}

// uploadHabits are those of one registry, as all uploads to it have found them.
type uploadHabits struct {
	mu    sync.Mutex
	known *habits
}

func (h *uploadHabits) now(host string) habits {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		first := habitsOf((&url.URL{Host: host}).Hostname())
		h.known = &first
	}
	return *h.known
}

// habitsOf are those of registries that are known by their names: Google's take
// no pieces, and GitHub's none of more than 4 MiB.
func habitsOf(host string) habits {
	switch {
	case host == "ghcr.io":
		return habits{patch: 4 << 20}
	case host == "gcr.io", strings.HasSuffix(host, ".gcr.io"), strings.HasSuffix(host, "-docker.pkg.dev"):
		return habits{noPieces: true}
	}
	return habits{}
}

// learn adds what an upload has found.
func (h *uploadHabits) learn(found habits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	least := func(a, b int64) int64 {
		if a == 0 || b != 0 && b < a {
			return b
		}
		return a
	}
	if h.known == nil {
		h.known = &habits{}
	}
	*h.known = habits{
		piece: least(h.known.piece, found.piece), patch: least(h.known.patch, found.patch),
		taken:    max(h.known.taken, found.taken),
		noPieces: h.known.noPieces || found.noPieces,
		emptyPut: h.known.emptyPut || found.emptyPut,
		noExpect: h.known.noExpect || found.noExpect,
	}
}

// pieceError is a piece that was not taken.
type pieceError struct {
	error
	method string
	size   int64
}

func (e *pieceError) Unwrap() error { return e.error }

// adapt makes the best of what a request failed of. again is what to wait for
// before the upload goes on; where both errors are nil it does so at once.
func (u *upload) adapt(ctx context.Context, err error) (again, final error) {
	var unread contentError
	var failed *Error
	var piece *pieceError
	switch {
	case errors.As(err, &unread), ctx.Err() != nil, errors.Is(err, image.ErrVerification), errors.Is(err, ErrUploadURL):
		return nil, err
	case errors.Is(err, errGone):
		return u.restart(ctx, err)
	case !errors.As(err, &failed), u.session == nil:
		return err, nil // pause knows what passes
	case !errors.As(err, &piece):
		return err, nil
	}
	if strings.HasPrefix(failed.Step, "get token") {
		return err, nil
	}
	switch status := failed.Status; {
	case status == http.StatusExpectationFailed && !u.habits.noExpect:
		u.habits.noExpect = true
		return u.synchronize(ctx)
	case status == http.StatusRequestEntityTooLarge:
		if !u.shrink(&u.habits.piece, piece.size) {
			return nil, err
		}
		return u.synchronize(ctx)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return u.outOfRange(ctx, err, piece)
	case failed.Code == CodeDigestInvalid && !u.doubt:
		failed.causes = append(failed.causes, image.ErrVerification)
		return nil, err
	case status == http.StatusNotFound, failed.Code == CodeUploadUnknown, failed.Code == CodeUploadInvalid, failed.Code == CodeDigestInvalid:
		u.session = nil // it is gone
		return u.synchronizeAfter(ctx, err)
	case status == 0 || mayPass(status):
		if u.failures++; u.failedAt != u.acked {
			u.failures, u.failedAt = 1, u.acked
		}
		if u.failures > 1 && !isBusy(status) {
			u.shrink(&u.habits.piece, piece.size) // some cut off what they find too large
		}
		return err, nil
	case isUnknown(status) || status == http.StatusLengthRequired:
		return u.otherwise(ctx, err, piece)
	}
	return nil, err
}

// shrink makes a limit smaller than it was and than a size; false where there is
// none smaller.
func (u *upload) shrink(limit *int64, size int64) bool {
	for _, smaller := range smallerPieces {
		if smaller < size && smaller >= u.session.least && (*limit == 0 || smaller < *limit) {
			*limit = smaller
			return true
		}
	}
	return false
}

// outOfRange asks where the registry is. Where it is where we were, the piece
// was too large.
func (u *upload) outOfRange(ctx context.Context, err error, piece *pieceError) (again, final error) {
	before := u.acked
	again, final = u.synchronize(ctx)
	if again != nil || final != nil || u.done || u.session == nil || u.acked != before {
		return again, final
	}
	if !u.shrink(&u.habits.patch, piece.size) {
		return nil, err
	}
	return nil, nil
}

// otherwise sends the content in another way than the one that was refused:
// with an empty request at the end, or in one body.
func (u *upload) otherwise(ctx context.Context, err error, piece *pieceError) (again, final error) {
	switch {
	case piece.method == http.MethodPut && piece.size > 0 && !u.habits.emptyPut && !u.habits.noPieces:
		u.habits.emptyPut = true
		return u.synchronize(ctx)
	case piece.method == http.MethodPatch && !u.habits.noPieces:
		u.habits.noPieces, u.habits.emptyPut = true, false
		return u.restart(ctx, err)
	}
	return nil, err
}

// synchronizeAfter is synchronize, but waits first: err counts as a try.
func (u *upload) synchronizeAfter(ctx context.Context, err error) (again, final error) {
	again, final = u.synchronize(ctx)
	if again == nil && final == nil && !u.done {
		again = &image.RetryError{Err: err}
	}
	return again, final
}

// synchronize finds out how far the registry got. Where both errors are nil the
// upload goes on from there, or is done.
func (u *upload) synchronize(ctx context.Context) (again, final error) {
	if u.closing {
		has, err := u.HasBlob(ctx, u.blob)
		if err != nil {
			return passing(err)
		}
		if has {
			u.done, u.session, u.acked = true, nil, u.size
			return nil, nil
		}
	}
	if u.session == nil || u.whole {
		return u.restart(ctx, nil)
	}
	resp, at, err := u.client.push(ctx, u.step, http.MethodGet, u.session.at, nil, nil, answerTime)
	var failed *Error
	switch {
	case err == nil:
		if err := u.goOn(resp, at); err != nil {
			return nil, err
		}
		told, ok := toldOffset(resp)
		if told = min(told, u.sent); !ok || told != u.acked {
			u.doubt = true
		}
		u.acked = max(told, u.acked) // what it took it has: the range may be stale
	case !errors.As(err, &failed) || failed.Status == 0 || mayPass(failed.Status):
		return passing(err)
	case failed.Status == http.StatusNotFound, failed.Code == CodeUploadUnknown, failed.Code == CodeUploadInvalid:
		u.session = nil
	case failed.Status == http.StatusUnauthorized || failed.Status == http.StatusForbidden:
		return nil, err
	default:
		u.doubt = true // it does not tell
	}
	if u.session == nil || !u.reaches(u.acked) {
		return u.restart(ctx, err)
	}
	return nil, nil
}

// passing is err, as one to wait for where it may pass.
func passing(err error) (again, final error) {
	var busy *image.RetryError
	var failed *Error
	if errors.As(err, &busy) || errors.As(err, &failed) && failed.transient {
		return err, nil
	}
	return nil, err
}

// restart begins anew, from the content's start.
func (u *upload) restart(ctx context.Context, err error) (again, final error) {
	u.cancel(ctx)
	u.session, u.acked, u.sent = nil, 0, 0
	u.closing, u.whole, u.doubt = false, false, false
	if u.rewind() {
		return nil, nil
	}
	u.client.uploads.learn(u.habits)
	lost := &Error{
		Step: u.step, Host: u.client.host, Message: "the registry has not kept what was sent, which is not there any more",
		causes: []error{ErrUploadLost},
	}
	var failed *Error
	if errors.As(err, &failed) && failed.Status != 0 {
		lost.Message = fmt.Sprintf("%s (%s)", lost.Message, statusText(failed.Status))
	}
	return nil, &image.RetryError{Err: lost}
}
