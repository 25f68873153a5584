package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Source gives images out: a repository in a registry, for example. Its
// methods may be called from many goroutines at once, and its values can be
// compared (a pointer). Its errors name the step and whom it was asked of.
type Source interface {
	// Manifest returns the exact, verified bytes of the manifest or index
	// that a tag or digest names, in one round trip where the source allows.
	// Errors wrap ErrNotFound, ErrUnauthorized or ErrVerification where one
	// of them is the cause.
	Manifest(ctx context.Context, tagOrDigest string) (Content, error)
	// Blob returns a small blob whole and verified, a config for example, with
	// the source's own retries. The caller has checked that the descriptor's
	// size is one that it takes into memory. Errors wrap what Manifest's do.
	Blob(ctx context.Context, d Descriptor) ([]byte, error)
	// OpenRange opens n bytes of a blob from offset off. It makes one
	// attempt: whether to try again is the caller's to decide. The caller
	// closes the range's Body, and cancels ctx to cut it short.
	OpenRange(ctx context.Context, blob Descriptor, off, n int64) (*Range, error)
}

// Range is what a source really sends of a blob, which may differ from what
// was asked for: a server without ranges sends the whole from Start 0.
type Range struct {
	Body  io.ReadCloser
	Start int64  // the blob's offset of Body's first byte
	Total int64  // the blob's size as the server tells it, or -1
	Len   int64  // the bytes that Body will give as the server tells it, or -1
	Host  string // the host (host:port) that sends the bytes, after redirects
}

// RetryError is a refusal that may pass: the source asks for a pause (429, 503)
// or is in trouble (5xx).
type RetryError struct {
	After time.Duration // what Retry-After asks for, 0 where it says nothing
	Busy  bool          // 429 or 503: fewer connections are wanted
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }

func (e *RetryError) Unwrap() error { return e.Err }

// NoRangeError says that a host does not answer range requests as asked: ask
// for the blob as one stream (off 0, n its size).
type NoRangeError struct {
	Host string
	Err  error
}

func (e *NoRangeError) Error() string {
	return fmt.Sprintf("%s serves no ranges: %v", e.Host, e.Err)
}

func (e *NoRangeError) Unwrap() error { return e.Err }

// Extent is a run of bytes of a blob: the offsets [Off, Off+Len).
type Extent struct{ Off, Len int64 }

// Place is where one blob's bytes go. Pieces may come in any order and from
// several goroutines at once, but no two of them overlap, unless Forget was
// called between them.
type Place interface {
	// WriteAt keeps a piece. Where the place is a file, a later run after this
	// process was killed finds it there, but for at most the last 64 KiB of
	// pieces that follow each other.
	io.WriterAt
	// ReadAt reads pieces back that were written, for hashing.
	io.ReaderAt
	// Written tells, in order, which bytes an earlier run left here. They are
	// a hint: they are hashed before anybody believes them.
	Written() []Extent
	// Forget drops what is known to be written, after it proved wrong.
	Forget() error
}

// Output is one format being written. It has what Resolve found before any
// byte moves, and is whole only after Commit.
type Output interface {
	// Place is where a blob of the images goes. It is nil where the blob is
	// there already, verified. The error is ErrBusy where another process is
	// fetching the blob: ask again later.
	Place(ctx context.Context, blob Descriptor) (Place, error)
	// Done is called when a blob that got a Place is whole and verified.
	Done(blob Descriptor) error
	// Commit completes the output and gives it its name, after every blob is
	// there. On error nothing stands under the name that was not there before,
	// and Close is still due.
	Commit(ctx context.Context) error
	// Close gives the output up, and keeps what is there for the next run.
	// After Commit it does nothing.
	Close() error
}

// ErrBusy says that another process is at the same blob.
var ErrBusy = errors.New("another davit is fetching it")
