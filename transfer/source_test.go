package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// fakeSource serves blobs from memory, with faults.
type fakeSource struct {
	blobs map[digest.Digest][]byte

	noRanges  bool                  // sends the whole blob, whatever is asked for
	refuse416 bool                  // refuses whatever is not the whole blob
	noLength  bool                  // tells neither length nor total
	cut       int                   // breaks each body off after so many bytes
	stalls    int                   // so many bodies stop in their middle
	delay     time.Duration         // before each 16 KiB
	slowFirst bool                  // only the first body is delayed
	fail      func(call int) error  // refuses a call
	corrupt   func(p []byte) []byte // what is sent in place of the right bytes

	mu      sync.Mutex
	calls   int
	served  int64
	open    int
	maxOpen int
}

func newFakeSource(blobs ...[]byte) *fakeSource {
	s := &fakeSource{blobs: map[digest.Digest][]byte{}}
	for _, b := range blobs {
		s.blobs[digest.FromBytes(b)] = b
	}
	return s
}

func (s *fakeSource) Manifest(context.Context, string) (image.Content, error) {
	return image.Content{}, image.ErrNotFound
}

func (s *fakeSource) Blob(context.Context, image.Descriptor) ([]byte, error) {
	return nil, image.ErrNotFound
}

func (s *fakeSource) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := s.calls
	s.calls++
	if s.fail != nil {
		if err := s.fail(call); err != nil {
			return nil, err
		}
	}
	data, ok := s.blobs[blob.Digest]
	if !ok {
		return nil, image.ErrNotFound
	}
	if s.corrupt != nil {
		data = s.corrupt(bytes.Clone(data))
	}
	size := int64(len(data))
	if s.refuse416 && (off != 0 || n != blob.Size) {
		return nil, &image.NoRangeError{Host: "fake", Err: errors.New("416")}
	}
	if s.noRanges {
		off, n = 0, size
	}
	end := min(off+n, size)
	r := &image.Range{Start: off, Total: size, Len: end - off, Host: "fake"}
	if s.noLength {
		r.Total, r.Len = -1, -1
	}
	s.open++
	s.maxOpen = max(s.maxOpen, s.open)
	body := &fakeBody{source: s, ctx: ctx, left: data[off:end], cut: -1}
	if s.cut > 0 {
		body.cut = s.cut
	}
	if s.stalls > 0 {
		s.stalls--
		body.stallAt = len(body.left) / 2
	}
	if s.delay > 0 && (!s.slowFirst || call == 0) {
		body.delay = s.delay
	}
	r.Body = body
	return r, nil
}

// sent is how many bytes were served so far.
func (s *fakeSource) sent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

type fakeBody struct {
	source  *fakeSource
	ctx     context.Context
	left    []byte
	cut     int
	stallAt int
	delay   time.Duration
	closed  bool
}

func (b *fakeBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.stallAt > 0 && len(b.left) <= b.stallAt {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	if b.delay > 0 {
		p = p[:min(len(p), 16<<10)]
		if !sleep(b.ctx, b.delay) {
			return 0, b.ctx.Err()
		}
	}
	if len(b.left) == 0 {
		return 0, io.EOF
	}
	if b.cut == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if b.cut > 0 {
		p = p[:min(len(p), b.cut)]
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	if b.cut > 0 {
		b.cut -= n
	}
	b.source.mu.Lock()
	b.source.served += int64(n)
	b.source.mu.Unlock()
	return n, nil
}

func (b *fakeBody) Close() error {
	b.source.mu.Lock()
	defer b.source.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.source.open--
	}
	return nil
}

// memPlace is a place in memory that checks the contract: no byte twice.
type memPlace struct {
	t       *testing.T
	mu      sync.Mutex
	data    []byte
	written extents
	before  []image.Extent // what an earlier run left
	forgot  int
}

func (p *memPlace) WriteAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.written {
		if off < e.Off+e.Len && e.Off < off+int64(len(b)) {
			p.t.Errorf("bytes %d+%d are written twice", off, len(b))
		}
	}
	p.written = p.written.add(off, int64(len(b)))
	return copy(p.data[off:], b), nil
}

func (p *memPlace) ReadAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return copy(b, p.data[off:]), nil
}

func (p *memPlace) Written() []image.Extent { return p.before }

func (p *memPlace) Forget() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgot++
	p.written, p.before = nil, nil
	return nil
}

// randomBlob is n bytes that depend on the seed alone.
func randomBlob(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

func itemsFor(t *testing.T, s *fakeSource, blobs ...[]byte) ([]Item, []*memPlace) {
	t.Helper()
	var items []Item
	var places []*memPlace
	for _, b := range blobs {
		p := &memPlace{t: t, data: make([]byte, len(b))}
		places = append(places, p)
		items = append(items, Item{
			Blob:   image.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))},
			Source: s, Place: p,
		})
	}
	return items, places
}
