package davit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// base is something that whoever gets a delta has already.
type base struct {
	name string // as the delta tells it
	has  func(layer image.Descriptor) bool
	// expected is the base of another name that has a layer, where this is a delta;
	// nil or empty: none.
	expected func(layer image.Descriptor) string
}

// openBases opens what PullOptions.Since names. Stores stay open as long as the
// command's sources.
func (p *pull) openBases(ctx context.Context) error {
	for _, name := range p.opts.Since {
		b, err := p.openBase(ctx, name)
		if err != nil {
			return fmt.Errorf("since %s: %w", name, err)
		}
		p.bases = append(p.bases, b)
	}
	return nil
}

func (p *pull) openBase(ctx context.Context, name string) (base, error) {
	at, err := ParseLocation(name)
	if at.Guessed {
		p.note("%s is taken for what is on this machine's disk; docker://%s is the registry's", name, name)
	}
	if path := strings.TrimSpace(name); (err != nil || at.Path == "") && isRegular(path) {
		at, err = Location{Path: path}, nil
	}
	switch {
	case err != nil:
		return base{}, err
	case at.Path == "":
		return p.registryBase(ctx, at)
	case at.Image != "":
		return base{}, errors.New("a base is all that a file holds: name it without an image")
	}
	p.inputs = append(p.inputs, at.Path)
	list, err := isList(at.Path)
	if err != nil {
		return base{}, err
	}
	if list {
		return listBase(at.Path)
	}
	store, err := p.sources.store(ctx, at.Path)
	if err != nil {
		return base{}, err
	}
	return storeBase(ctx, baseName(at.Path), store), nil
}

// baseName is what a delta calls a file or directory.
func baseName(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	return filepath.Base(path)
}

// storeBase has what the store has, and what it has left out itself: whoever has
// a delta has what that is joined with.
func storeBase(ctx context.Context, name string, store image.Store) base {
	expected := func(layer image.Descriptor) string {
		teller, ok := store.(image.DeltaTeller)
		if !ok {
			return ""
		}
		name, _ := teller.Expected(layer.Digest)
		return name
	}
	has := func(layer image.Descriptor) bool {
		if expected(layer) != "" {
			return true
		}
		sizer, ok := store.(image.BlobSizer)
		if !ok {
			return false
		}
		size, err := sizer.BlobSize(ctx, layer.Digest)
		return err == nil && size == layer.Size
	}
	return base{name: name, has: has, expected: expected}
}

// registryBase has what the manifests of an image name, of all its platforms.
// Those that the registry does not have name nothing.
func (p *pull) registryBase(ctx context.Context, at Location) (base, error) {
	l, err := openLookAt(ctx, at, image.Platforms{All: true}, LookOptions{Events: p.opts.Events, sources: p.sources})
	if err != nil {
		return base{}, err
	}
	listing, err := l.find.List(ctx)
	if err != nil {
		return base{}, err
	}
	var mu sync.Mutex
	sizes := map[digest.Digest]int64{}
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for _, d := range listing.Manifests {
		group.Go(func() error {
			c, err := l.source.Manifest(ctx, d.Digest.String())
			if errors.Is(err, image.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			m, err := image.ParseManifest(c)
			if err != nil {
				return fmt.Errorf("read manifest %s: %w", d.Digest, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, blob := range append(m.Layers, m.Config) {
				sizes[blob.Digest] = blob.Size
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return base{}, err
	}
	return base{name: l.find.Reference().String(), has: func(layer image.Descriptor) bool {
		size, met := sizes[layer.Digest]
		return met && size == layer.Size
	}}, nil
}

// without leaves out of an image what a base has, and says so.
func (p *pull) without(img image.Image) image.Image {
	if len(p.bases) == 0 {
		return img
	}
	img, layers := image.WithoutBlobs(img, p.baseOf)
	if len(layers) == 0 {
		p.note("%s: no base has a layer of it, so nothing is left out", img.Label)
		return img
	}
	p.note("%s: layers that a base has are left out (%d, of %s)", img.Label, len(layers), units.HumanSizeWithPrecision(float64(sizeOf(layers)), 3))
	return img
}

// baseOf is the first base that has a layer, or which that one, a delta, expects
// to have it.
func (p *pull) baseOf(layer image.Descriptor) (name string, ok bool) {
	for _, b := range p.bases {
		switch {
		case !b.has(layer):
		case b.expected != nil && b.expected(layer) != "":
			return b.expected(layer), true
		default:
			return b.name, true
		}
	}
	return "", false
}

func sizeOf(blobs []image.Descriptor) (sum int64) {
	for _, d := range blobs {
		sum += d.Size
	}
	return sum
}

// leftOut is how many bytes an image's layers have that a base has, each once.
func leftOut(img image.Image) int64 {
	delta := image.DeltaOf(img)
	var sum int64
	for _, m := range img.Manifests {
		for _, layer := range m.Layers {
			if _, out := delta.Expected(layer.Digest); out {
				sum += layer.Size
				delete(delta, layer.Digest)
			}
		}
	}
	return sum
}

// isRegular says whether a regular file is there.
func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

const (
	maxList     = 64 << 20 // bytes of a list of digests
	maxListLine = 64 << 10 // bytes of one of its lines
)

// isList says whether a file is text, as no archive is.
func isList(path string) (bool, error) {
	if !isRegular(path) {
		return false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	head = head[:n]
	for i := 0; i < utf8.UTFMax && len(head) > 0 && !utf8.Valid(head); i++ {
		head = head[:len(head)-1] // a letter that was cut
	}
	return utf8.Valid(head) && !bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\r", r) }), nil
}

// listBase has the digests that a text file lists, one a line: alone, behind a
// name and an at sign, or as sha256sum writes them. Empty lines and those that
// begin with # tell nothing.
func listBase(path string) (base, error) {
	f, err := os.Open(path)
	if err != nil {
		return base{}, err
	}
	defer func() { _ = f.Close() }()
	known := map[digest.Digest]bool{}
	in := bufio.NewScanner(io.LimitReader(f, maxList+1))
	in.Buffer(nil, maxListLine)
	read := 0
	for n := 1; in.Scan(); n++ {
		if read += len(in.Bytes()) + 1; read > maxList {
			return base{}, fmt.Errorf("it has more than %d bytes", maxList)
		}
		line := strings.TrimSpace(in.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		d, ok := listedDigest(line)
		if !ok {
			return base{}, fmt.Errorf("line %d of the list has no digest: %.80q", n, line)
		}
		known[d] = true
	}
	if err := in.Err(); err != nil {
		return base{}, fmt.Errorf("read the list: %w", err)
	}
	if len(known) == 0 {
		return base{}, errors.New("the file lists no digest, and is no archive")
	}
	return base{name: baseName(path), has: func(layer image.Descriptor) bool { return known[layer.Digest] }}, nil
}

// listedDigest is the first digest of a line.
func listedDigest(line string) (digest.Digest, bool) {
	for _, field := range strings.Fields(line) {
		if i := strings.LastIndex(field, "@"); i >= 0 {
			field = field[i+1:]
		}
		for _, s := range []string{field, "sha256:" + field, "sha512:" + field} {
			if d := digest.Digest(s); image.CheckDigest(d) == nil {
				return d, true
			}
		}
	}
	return "", false
}
