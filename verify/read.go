package verify

import (
	"archive/tar"
	"cmp"
	"context"
	_ "crypto/sha256" // go-digest takes the hashes that are linked in
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
)

// facts are what reading a file told.
type facts struct {
	digest digest.Digest // of the bytes, by the algorithm of the claim
	kind   compress.Kind // of a layer
	// diffIDs are the digests of a layer's tar, by algorithm. There are none
	// where it cannot be decompressed; layerErr is why, or why it is no tar.
	diffIDs  map[digest.Algorithm]digest.Digest
	layerErr error
	err      error // why it could not be read
}

const (
	gib = 1 << 30
	// maxRatio is a little more than gzip reaches.
	maxRatio = 1100
)

// maxDecoded is what n bytes may decode to.
func (c *checker) maxDecoded(n int64) int64 {
	const most = 1 << 40
	switch {
	case c.opts.MaxDecoded > 0:
		return c.opts.MaxDecoded
	case n > most/maxRatio:
		return most
	}
	return min(most, gib+n*maxRatio)
}

// source reads a file, and knows whether it was the file that failed.
type source struct {
	ctx   context.Context
	r     io.Reader
	stage *image.Stage
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.stage.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// document reads a small file. It is nil where the file cannot be had, or is
// not what its name says: that is told later, of all files alike. It is nil too
// where the context has ended, and so has the check then.
func (c *checker) document(f *file, most int64) []byte {
	if c.ctx.Err() != nil {
		return nil
	}
	if f.fault != "" || f.facts != nil && (f.facts.err != nil || f.claim != "" && f.facts.digest != f.claim) {
		return nil
	}
	if f.size > most {
		c.problem(Structure, f.subject(), several(f.needs), "it has %d bytes, and a document of its kind no more than %d", f.size, most)
		f.bad = true
		return nil
	}
	b, err := readAll(f, most)
	f.facts = &facts{err: err, digest: f.algorithm().FromBytes(b)}
	if err != nil || f.claim != "" && f.facts.digest != f.claim {
		return nil
	}
	return b
}

func readAll(f *file, most int64) (_ []byte, err error) {
	in, err := f.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) != f.size {
		err = fmt.Errorf("it has %d bytes now, not %d", len(b), f.size)
	}
	return b, err
}

// algorithm is the one that the file is hashed by.
func (f *file) algorithm() digest.Algorithm {
	if f.claim != "" {
		return f.claim.Algorithm()
	}
	return digest.SHA256
}

// readBlobs reads what was not read yet: all files that are named, or that a
// digest names. The error is that of ctx.
func (c *checker) readBlobs(ctx context.Context) error {
	var todo []*file
	var total int64
	for _, f := range c.tree.files {
		if f.fault == "" && f.facts == nil && (f.claim != "" || f.wanted) {
			todo = append(todo, f)
			total += f.size
		}
	}
	limit := c.maxDecoded(total)
	c.decoded = limit
	var decoded atomic.Int64
	stage := image.NewStage(c.opts.Events, "read blobs", total)
	slices.SortStableFunc(todo, func(a, b *file) int { return cmp.Compare(b.size, a.size) })
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Jobs)
	for _, f := range todo {
		group.Go(func() error {
			f.facts = scan(inner, f, stage, &budget{limit: limit, used: &decoded})
			return context.Cause(inner)
		})
	}
	err := group.Wait()
	stage.End(err)
	for _, f := range c.tree.files {
		if f.facts != nil && f.facts.err == nil && !f.list {
			c.report.Blobs++
			c.report.Bytes += f.size
		}
	}
	return err
}

// errBudget: the layers decode to more than they may.
var errBudget = errors.New("the layers decode to too much")

// budget is what all layers together may decode to.
type budget struct {
	limit int64
	used  *atomic.Int64
}

// scan reads a file once, for its digest and where it is a layer for its diffIDs.
func scan(ctx context.Context, f *file, stage *image.Stage, b *budget) *facts {
	in, err := f.open()
	if err != nil {
		return &facts{err: err}
	}
	defer func() { _ = in.Close() }()
	blob := &source{ctx: ctx, r: io.LimitReader(in, f.size+1), stage: stage}
	hash := f.algorithm().Digester()
	counted := &counter{r: io.TeeReader(blob, hash.Hash())}
	told := &facts{}
	if len(f.expects) > 0 || f.mayBeLayer() {
		told.kind, told.layerErr = told.decode(counted, f, b)
	}
	// What the decoder left, all of it where there was none.
	_, err = io.Copy(io.Discard, counted)
	switch {
	case blob.err != nil:
		return &facts{err: blob.err}
	case err != nil:
		return &facts{err: err}
	case counted.n != f.size:
		return &facts{err: fmt.Errorf("it has %d bytes now, not %d", counted.n, f.size)}
	}
	told.digest = hash.Digest()
	return told
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// decode reads a layer to the end of its tar, and of what follows it.
func (t *facts) decode(blob io.Reader, f *file, b *budget) (compress.Kind, error) {
	unpacked, kind, end, err := compress.NewReader(blob)
	if err != nil {
		return kind, err
	}
	defer end()
	if kind != compress.Plain {
		ahead := compress.NewReadahead(unpacked)
		defer ahead.Stop()
		unpacked = ahead
	}
	hashes := map[digest.Algorithm]digest.Digester{digest.SHA256: digest.SHA256.Digester()}
	for _, e := range f.expects {
		if a := e.diffID.Algorithm(); hashes[a] == nil {
			hashes[a] = a.Digester()
		}
	}
	for _, h := range hashes {
		unpacked = io.TeeReader(unpacked, h.Hash())
	}
	layer := &limited{r: unpacked, budget: b}
	entries := tar.NewReader(layer)
	for err == nil || errors.Is(err, tar.ErrInsecurePath) {
		_, err = entries.Next()
	}
	tarErr := cutOff(err)
	if _, err := io.Copy(io.Discard, layer); err != nil {
		return kind, cutOff(err)
	}
	t.diffIDs = map[digest.Algorithm]digest.Digest{}
	for a, h := range hashes {
		t.diffIDs[a] = h.Digest()
	}
	return kind, tarErr
}

// cutOff is the error in words that tell what happened; nil at a proper end.
func cutOff(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("its content is cut off")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// limited reads within the budget.
type limited struct {
	r io.Reader
	*budget
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.used.Add(int64(n)) > l.limit {
		return 0, errBudget
	}
	return n, err
}
