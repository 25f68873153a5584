package registry

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/davit-cli/davit/image"
)

// stallTimeout is how long a small body may give no byte.
const stallTimeout = 30 * time.Second

var errStalled = errors.New("its answer stands still")

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
// stallTimeout; else closing it is the caller's.
func readSome(body io.ReadCloser, limit int) ([]byte, error) {
	var stalled atomic.Bool
	timer := time.AfterFunc(stallTimeout, func() {
		stalled.Store(true)
		_ = body.Close()
	})
	defer timer.Stop()
	var data []byte
	buffer := make([]byte, 32<<10)
	for len(data) < limit {
		n, err := body.Read(buffer[:min(len(buffer), limit-len(data))])
		data = append(data, buffer[:n]...)
		switch {
		case stalled.Load():
			return data, errStalled
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return data, err
		}
		timer.Reset(stallTimeout)
	}
	return data, nil
}
