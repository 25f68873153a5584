package registry

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/davit-cli/davit/image"
)

const (
	// stallTimeout is how long a small body may give no byte.
	stallTimeout = 30 * time.Second
	// smallTimeout is how long a small body may take in all.
	smallTimeout = 5 * time.Minute
)

var (
	errStalled = errors.New("its answer stands still")
	errSlow    = fmt.Errorf("its answer takes longer than %v", smallTimeout)
)

// tooLargeError is an answer of more bytes than are taken.
type tooLargeError int

func (limit tooLargeError) Error() string {
	return fmt.Sprintf("its answer is larger than %d MiB, more than davit takes", int(limit)>>20)
}

// Unwrap is image.ErrVerification: no manifest, list or token is that large.
func (tooLargeError) Unwrap() error { return image.ErrVerification }

// readAll reads a small body whole: at most limit bytes, or tooLargeError.
func readAll(body io.ReadCloser, limit int) ([]byte, error) {
	data, err := readSome(body, limit+1)
	if err == nil && len(data) > limit {
		return nil, tooLargeError(limit)
	}
	return data, err
}

// readSome reads up to limit bytes. It closes the body where no byte comes for
// stallTimeout, or not all of them within smallTimeout; else closing it is the
// caller's.
func readSome(body io.ReadCloser, limit int) ([]byte, error) {
	var given atomic.Pointer[error] // why it was closed
	giveUp := func(why error) func() {
		return func() {
			given.CompareAndSwap(nil, &why)
			_ = body.Close()
		}
	}
	stall := time.AfterFunc(stallTimeout, giveUp(errStalled))
	defer stall.Stop()
	defer time.AfterFunc(smallTimeout, giveUp(errSlow)).Stop()
	var data []byte
	buffer := make([]byte, 32<<10)
	for len(data) < limit {
		n, err := body.Read(buffer[:min(len(buffer), limit-len(data))])
		data = append(data, buffer[:n]...)
		why := given.Load()
		switch {
		case why != nil:
			return data, *why
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return data, err
		}
		stall.Reset(stallTimeout)
	}
	return data, nil
}
