// Package recode re-encodes an image's layers: as gzip, for loaders that do
// not read zstd, or as plain tars. What the layers hold stays, and so do the
// config and with it the image ID of classic Docker; the manifests that name
// the layers are rewritten, and the indexes that name those.
package recode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Compression is what every layer shall be.
type Compression int

// The compressions.
const (
	Gzip Compression = iota
	None             // plain tars
)

// String is the word for it: gzip or none.
func (c Compression) String() string {
	if c == None {
		return "none"
	}
	return "gzip"
}

// Sink is an output that takes blobs, one after the other.
type Sink interface {
	// Blob keeps the bytes that write writes, once write has told their
	// descriptor; where a blob of that digest is there already it keeps that
	// one. The bytes are verified, or derived from verified ones. Where write
	// fails nothing is kept and its error is returned.
	Blob(write func(w io.Writer) (image.Descriptor, error)) error
}

// Open opens a blob as the source serves it, whole and verified; it may wait
// for that. The blob is read once, from its start, and then closed.
type Open func(ctx context.Context, blob image.Descriptor) (io.ReadCloser, error)

// Options tune Images. The zero value works.
type Options struct {
	// Level is gzip's, 1 to 9. 0: the fastest.
	Level int
	// Jobs is how many processors compress. The bytes are the same whatever
	// it is. 0: all.
	Jobs int
	// MaxBytes caps what one image's layers may decode to. What exceeds it is
	// refused with an error that wraps ErrLimit. 0: DefaultBytes.
	MaxBytes int64
	// Have, if set, says which blobs stand in the output as they were served,
	// so that they need not be copied.
	Have func(blob image.Descriptor) bool
	// Events receives notes of what changed. May be nil.
	Events image.EventFunc
}

// DefaultBytes is what the zero value of Options.MaxBytes stands for.
const DefaultBytes = 1 << 40

// ErrLimit: an image's layers decode to more than Options.MaxBytes. Errors
// that wrap it wrap image.ErrVerification too.
var ErrLimit = errors.New("limit exceeded")

// Plan are the image's layers that are not as wanted, each once, in the order
// in which they are first named. It goes by their media types, as loaders of
// image layouts do. Layers of what is no container image, attestations for
// example, and of media types that are no tar's are none of them, and neither
// are layers that are left out.
func Plan(img image.Image, want Compression) []image.Descriptor {
	var layers []image.Descriptor
	met := map[digest.Digest]bool{}
	for _, m := range img.Manifests {
		for _, layer := range m.Layers {
			if needs(m, layer, want) && !met[layer.Digest] {
				met[layer.Digest] = true
				layers = append(layers, layer)
			}
		}
	}
	return layers
}

// Images writes the blobs of the images to a sink, in their order and each
// once: layers that Plan names re-encoded, others as they are. Manifests name
// layers that are left out as they did. It returns the
// images that the blobs belong to, in the same order, for the output to write
// their documents. An image all of whose layers are as wanted is returned as it
// is.
//
// Every layer that is decoded is compared with its diffID in the config. The
// rewritten manifests and indexes keep all fields but those that told of the
// layers' old form. Attestations of rewritten manifests are left out, as they
// attest other digests; a note tells so, and which digest changed. The image's
// Name is as image.Derive has it. The same images give the same bytes.
//
// Errors name the image, the layer and the step; they wrap
// image.ErrVerification where the content is at fault.
func Images(ctx context.Context, images []image.Image, want Compression, open Open, sink Sink, opts Options) ([]image.Image, error) {
	if opts.Jobs <= 0 {
		opts.Jobs = runtime.GOMAXPROCS(0)
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = DefaultBytes
	}
	r := &recoder{
		want: want, open: open, sink: sink, opts: opts,
		copied: map[digest.Digest]bool{}, recoded: map[digest.Digest]result{},
		documents: map[digest.Digest][]byte{}, algorithms: map[digest.Digest][]digest.Algorithm{},
	}
	if err := r.survey(images); err != nil {
		return nil, err
	}
	var out []image.Image
	for _, img := range images {
		derived, err := r.image(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", img.Name, err)
		}
		out = append(out, derived)
	}
	return out, nil
}
