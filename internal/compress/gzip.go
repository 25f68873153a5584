package compress

import (
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

// gzipBlock is what one processor compresses at a time. It decides the bytes,
// so it never changes with the number of processors.
const gzipBlock = 512 << 10

// NewGzip compresses to w on up to jobs processors, and leaves w open. The
// bytes are the same whatever jobs is. Levels are 1 to 9; 0 is the fastest.
func NewGzip(w io.Writer, level, jobs int) (io.WriteCloser, error) {
	if level == 0 {
		level = gzip.BestSpeed
	}
	if level < 1 || level > 9 {
		return nil, fmt.Errorf("gzip has levels 1 to 9, not %d", level)
	}
	z, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, err
	}
	z.ModTime = time.Unix(0, 0) // none (RFC 1952); pgzip's own is one in 2042
	return z, z.SetConcurrency(gzipBlock, max(1, jobs))
}
