package serve

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// reader reads a blob from its store, from wherever it was told to.
type reader struct {
	ctx  context.Context
	blob *blob
	at   int64         // where the next read is
	body io.ReadCloser // nil where there is none yet
	next int64         // what body gives next
	err  error         // the first of the store's
}

// open opens the blob at the place that was told.
func (r *reader) open() error {
	got, err := r.blob.store.OpenRange(r.ctx, r.blob.Descriptor, r.at, r.blob.Size-r.at)
	if err != nil {
		return err
	}
	if got.Start != r.at {
		_ = got.Body.Close() // it was not read
		return fmt.Errorf("open blob %s: the store gives it from %d, not from %d", r.blob.Digest, got.Start, r.at)
	}
	r.body, r.next = got.Body, r.at
	return nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.next != r.at {
		r.close()
	}
	if r.body == nil {
		if r.err = r.open(); r.err != nil {
			return 0, r.err
		}
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	r.next = r.at
	if errors.Is(err, io.EOF) && r.at < r.blob.Size {
		err = fmt.Errorf("read blob %s: %w", r.blob.Digest, io.ErrUnexpectedEOF)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.blob.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("read blob %s: there is nothing before its beginning", r.blob.Digest)
	}
	r.at = offset
	return offset, nil
}

func (r *reader) close() {
	if r.body != nil {
		_ = r.body.Close() // it was only read
		r.body = nil
	}
}

// verdicts are what was found out about blobs. A blob is hashed while it is
// first served whole.
type verdicts struct {
	mu    sync.Mutex
	blobs map[digest.Digest]error // nil: it has its digest
}

// known is what is wrong with a blob as far as that is known.
func (v *verdicts) known(d digest.Digest) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.blobs[d]
}

func (v *verdicts) set(d digest.Digest, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.blobs == nil {
		v.blobs = map[digest.Digest]error{}
	}
	v.blobs[d] = err
}

// check is content, hashed as it is read, where the whole of it is asked for
// and nobody has hashed it yet; else nil.
func (v *verdicts) check(r *request, content *reader) io.ReadSeeker {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, met := v.blobs[content.blob.Digest]; met || r.Method != http.MethodGet || r.Header.Get("Range") != "" {
		return nil
	}
	return &hashed{reader: content, verdicts: v, hash: content.blob.Digest.Algorithm().Hash()}
}

// held is how much of a blob's end waits until its digest is known.
const held = 64 << 10

// hashed reads a blob, and gives the last of it only if the digest is right.
type hashed struct {
	*reader
	verdicts *verdicts
	hash     hash.Hash
	end      []byte // the blob's last bytes, read ahead
	checked  bool
}

// Read implements io.Reader.
func (h *hashed) Read(p []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	before := h.blob.Size - held - h.at
	if before > 0 && !h.checked {
		n, err := h.reader.Read(p[:min(int64(len(p)), before)])
		_, _ = h.hash.Write(p[:n]) // never fails
		return n, err
	}
	if !h.checked {
		h.checked = true
		if h.err = h.check(); h.err != nil {
			return 0, h.err
		}
	}
	if len(h.end) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.end)
	h.end = h.end[n:]
	return n, nil
}

// check reads the blob's end and compares the digests.
func (h *hashed) check() error {
	h.end = make([]byte, h.blob.Size-h.at) // held at most
	if _, err := io.ReadFull(h.reader, h.end); err != nil {
		return err
	}
	_, _ = h.hash.Write(h.end) // never fails
	d := h.blob.Digest
	var err error
	if got := digest.NewDigest(d.Algorithm(), h.hash); got != d {
		err = fmt.Errorf("read blob %s: %w: what stands there has the digest %s", d, image.ErrVerification, got)
	}
	h.verdicts.set(d, err)
	return err
}
