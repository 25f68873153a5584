package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/davit-cli/davit/image"
)

const (
	// windowSize is how much of a blob's content is kept in memory while it is
	// uploaded, and so how large pieces are where there may be a need for one
	// again.
	windowSize = 16 << 20
	// maxWindow is the most that a registry can ask to be in a piece.
	maxWindow = 64 << 20
	// eager is the size of a body that is not sent before the registry has said
	// that it wants it, until it has taken one so large.
	eager = 1 << 20
	// smallPart is the part of the memory up to which a piece is read before it is
	// sent: 1 MiB as a rule. A request for it is not worth beginning early.
	smallPart = 16
	// cancelTime is how long giving up a session may take.
	cancelTime = 10 * time.Second
	// cancelTries is how often it is tried, cancelPause what lies between the
	// first two of them.
	cancelTries = 5
	cancelPause = 50 * time.Millisecond
)

// session is an upload that a registry has opened.
type session struct {
	at    location
	least int64 // bytes of a piece that is not the last
}

// upload is a blob on its way to a registry.
type upload struct {
	*Repository
	step string
	blob image.Descriptor
	*window
	habits habits

	session  *session
	acked    int64 // bytes that the registry has, as far as it has told
	sent     int64 // bytes that it may have
	furthest int64 // that acked has been
	failedAt int64 // what acked was when a piece failed last, so many times
	failures int
	closing  bool // the last request was sent, so that the blob may be there
	whole    bool // the content goes in one body and is not kept
	doubt    bool // what the registry has may not be what was sent
	done     bool
}

// PushBlob uploads a blob (OCI distribution-spec, "Pushing Blobs"): one that
// fits into memory, or whose content is an io.ReaderAt, in one request; others
// piece by piece, each sent while it is read, and kept until the registry has it. After a cut connection,
// or a refusal that may pass, it asks how far the registry got and goes on from
// there; as often as Options.Retries in a row without any progress. Pieces that
// are too large become smaller. An upload that ends with an error is given up
// (DELETE), unless ctx has ended.
//
// See image.Target for content. A registry that takes no pieces, or has lost
// some, makes an error that wraps ErrUploadLost and is an image.RetryError.
// Errors wrap image.ErrVerification where the content is not of the blob's
// size, or the registry says that it has another digest; image.ErrUnauthorized;
// or a sentinel of this package; or what reading the content failed of; or are
// ctx's own.
func (r *Repository) PushBlob(ctx context.Context, d image.Descriptor, content io.Reader) error {
	if err := image.CheckDigest(d.Digest); err != nil {
		return fmt.Errorf("push blob to %s: %w", r.name, err)
	}
	u := &upload{
		Repository: r, step: "push blob " + r.name + "@" + d.Digest.String(), blob: d,
		window: newWindow(content, d.Size), habits: r.client.uploads.now(r.client.host),
	}
	if d.Size < 0 || d.Size > image.MaxImageSize {
		return fmt.Errorf("%s: %w: it is to have %d bytes", u.step, image.ErrVerification, d.Size)
	}
	r.pushes.mu.Lock()
	if opened, ok := r.pushes.opened[d.Digest]; ok {
		u.session = &opened
		delete(r.pushes.opened, d.Digest)
	}
	r.pushes.mu.Unlock()
	err := u.run(ctx)
	var unread contentError
	if errors.As(err, &unread) {
		err = fmt.Errorf("%s: read its content: %w", u.step, unread.error)
	}
	if err != nil {
		u.cancel(ctx)
	}
	return err
}

// run sends one piece after the other until the registry has the blob.
func (u *upload) run(ctx context.Context) error {
	for tries := 0; !u.done; {
		again, err := u.advance(ctx), error(nil)
		if again != nil {
			again, err = u.adapt(ctx, again)
		}
		for err == nil && again != nil {
			if err = u.client.pause(ctx, again, tries); err != nil {
				break
			}
			tries++
			again, err = u.synchronize(ctx)
		}
		if err != nil {
			return err
		}
		if u.acked > u.furthest {
			u.furthest, tries = u.acked, 0
		}
	}
	u.client.uploads.learn(u.habits)
	return nil
}

// advance takes the upload one request further.
func (u *upload) advance(ctx context.Context) error {
	if u.session == nil {
		return u.begin(ctx)
	}
	room, left := u.room(), u.size-u.acked
	if u.whole = u.habits.noPieces && u.random == nil && u.size > room; u.whole {
		return u.put(ctx, u.rest(0))
	}
	n := left
	if u.random == nil {
		n = min(n, room)
	}
	if most := u.habits.piece; most > 0 {
		n = min(n, max(most, u.session.least))
	}
	if most := u.habits.patch; most > 0 && (u.acked > 0 || n < left || u.habits.emptyPut) {
		n = min(n, max(most, u.session.least))
	}
	from, most := u.acked, n
	if u.size <= room {
		from, most = 0, u.size // it may have to be sent from its start
	}
	u.hold(from, most)
	if n <= room/smallPart { // what is larger is sent while it is read
		if err := u.keep(u.acked, n); err != nil {
			return err
		}
	}
	if n == left && (n == 0 || !u.habits.emptyPut) {
		return u.put(ctx, u.piece(u.acked, n))
	}
	return u.patch(ctx, u.piece(u.acked, n))
}

// room is how much is kept in memory.
func (u *upload) room() int64 {
	room := int64(windowSize)
	if u.client.room > 0 {
		room = u.client.room
	}
	if u.session != nil {
		room = max(room, u.session.least)
	}
	return room
}

// begin opens a session.
func (u *upload) begin(ctx context.Context) error {
	resp, at, err := u.client.push(ctx, u.step, http.MethodPost, u.pushTo(u.uploadsPath(), u.pushAuth()), nil, nil, answerTime)
	if err != nil {
		return err
	}
	opened, err := u.client.newSession(u.step, resp, at)
	if err != nil {
		return err
	}
	u.session = &opened
	return nil
}

// newSession is the session that resp has opened.
func (c *client) newSession(step string, resp *http.Response, at location) (session, error) {
	next, err := c.uploadLocation(step, resp, at)
	if err != nil {
		return session{}, err
	}
	least, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	if err != nil || least < 0 {
		least = 0
	}
	if isECR((&url.URL{Host: c.host}).Hostname()) {
		least = max(least, 5<<20) // of which it does not tell
	}
	return session{at: next, least: min(least, maxWindow)}, nil
}

// uploadLocation is where an answer has the upload go on.
func (c *client) uploadLocation(step string, resp *http.Response, at location) (location, error) {
	next, err := redirectTarget(resp)
	if err != nil {
		return location{}, c.failure(step, resp.Request, err)
	}
	return c.beside(step, at, next)
}

// patch sends a piece.
func (u *upload) patch(ctx context.Context, piece *payload) error {
	resp, at, err := u.send(ctx, http.MethodPatch, u.session.at, piece, answerTime)
	if err != nil {
		return err
	}
	end := u.acked + piece.size
	// Some registries tell stale or relative ranges of what they have taken
	// whole. Only one that ends within the piece says that they have not.
	if told, ok := toldOffset(resp); ok && told > u.acked && told < end {
		end = told
	}
	u.acked = end
	return u.goOn(resp, at)
}

// goOn continues where resp says, if it does.
func (u *upload) goOn(resp *http.Response, at location) error {
	if resp.Header.Get("Location") == "" {
		return nil
	}
	next, err := u.client.uploadLocation(u.step, resp, at)
	if err == nil {
		u.session.at = next
	}
	return err
}

// put sends the last piece, which may be empty, and has the blob verified.
func (u *upload) put(ctx context.Context, piece *payload) error {
	at := u.session.at
	target := *at.url
	if target.RawQuery != "" {
		target.RawQuery += "&"
	}
	target.RawQuery += "digest=" + url.QueryEscape(u.blob.Digest.String())
	at.url = &target
	u.closing = true
	resp, _, err := u.send(ctx, http.MethodPut, at, piece, commitTime)
	if err != nil {
		return err
	}
	if u.whole {
		if err := u.atEnd(); err != nil {
			return err
		}
	}
	u.done, u.session, u.acked = true, nil, u.size
	return u.client.checkTaken(u.step, resp, u.blob.Digest)
}

// send sends a piece from acked on.
func (u *upload) send(ctx context.Context, method string, at location, piece *payload, patience time.Duration) (*http.Response, location, error) {
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if piece.size > 0 && (u.acked > 0 || method == http.MethodPatch) {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.acked, u.acked+piece.size-1))
	}
	if piece.size > eager && !u.habits.noExpect && (piece.size > u.habits.taken || u.whole) {
		header.Set("Expect", "100-continue")
	}
	u.sent = max(u.sent, u.acked+piece.size)
	resp, reached, err := u.client.push(ctx, u.step, method, at, header, piece, patience)
	if err != nil {
		return nil, reached, &pieceError{err, method, piece.size}
	}
	u.habits.taken = max(u.habits.taken, piece.size)
	return resp, reached, nil
}

// cancel gives the session up, best effort.
func (u *upload) cancel(ctx context.Context) {
	if u.session == nil || ctx.Err() != nil {
		return
	}
	ctx, end := context.WithTimeout(ctx, cancelTime)
	defer end()
	for tries := range cancelTries {
		_, _, err := u.client.push(ctx, u.step, http.MethodDelete, u.session.at, nil, nil, cancelTime)
		switch status := statusOf(err); {
		case status == http.StatusRequestedRangeNotSatisfiable:
			// It has more than its URL says, which was of before it was cut.
			resp, at, err := u.client.push(ctx, u.step, http.MethodGet, u.session.at, nil, nil, cancelTime)
			if err != nil || u.goOn(resp, at) != nil {
				return // it ends by itself too
			}
		case status/100 != 5:
			return
		default: // it may still be at the request that ended within its body
			select {
			case <-time.After(cancelPause << tries):
			case <-ctx.Done():
				return
			}
		}
	}
}

// toldOffset is how many bytes the registry has by its Range, "0-1234". That
// does not tell none from one; it is taken for none.
func toldOffset(resp *http.Response) (int64, bool) {
	value := strings.TrimPrefix(strings.TrimSpace(resp.Header.Get("Range")), "bytes")
	first, last, ok := strings.Cut(strings.TrimLeft(value, "= "), "-")
	end, err := parsePosition(last)
	if !ok || first != "0" || err != nil {
		return 0, false
	}
	if end == 0 {
		return 0, true
	}
	return end + 1, true
}
