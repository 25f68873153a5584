// Package verify checks an image that is on disk: an archive (a tar, also a
// compressed one, also in parts), an OCI image layout or a directory of components, whoever
// wrote it.
//
// Everything is read once: every blob is hashed, also those that nobody names,
// and every layer of an image is decoded for its diffID (OCI image-spec,
// config.md, "Layer DiffID"). What is wrong does not end the check: the report
// lists all of it, and says which loaders would take the file.
//
// No link leads out of what is checked, and nothing in it is written. A
// compressed archive is decompressed into a temporary file first, which has the
// size of its tar.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/split"
)

// Options of Check. The zero value works.
type Options struct {
	// Jobs is how many blobs are read at once. 0: one a processor.
	Jobs int
	// TempDir is where a compressed archive is decompressed to; "" for the
	// system's directory of temporary files. Nothing remains there.
	TempDir string
	// MaxDecoded is how many bytes all layers together may decode to, and what
	// a compressed archive may. 0: 1 GiB and 1100 times what is checked, 1 TiB at
	// most. Gzip reaches no more than 1032 times.
	MaxDecoded int64
	// Events receives the stages of the work. May be nil.
	Events image.EventFunc
}

// Format is what was checked.
type Format string

// The formats.
const (
	Archive    Format = "archive"    // a tar
	OCI        Format = "oci"        // an OCI image layout in a directory
	Components Format = "components" // manifest, config and layers as plain files
)

// Kind is what sort of thing is wrong.
type Kind string

// The kinds of problems.
const (
	Digest     Kind = "digest"     // a blob's bytes have another digest
	Size       Kind = "size"       // a blob has another size than its descriptor says
	Missing    Kind = "missing"    // something that is named is not there
	DiffID     Kind = "diffid"     // a layer's tar has another digest than the config says
	Layer      Kind = "layer"      // a layer cannot be decoded to its end
	Truncated  Kind = "truncated"  // the tar is cut off
	Structure  Kind = "structure"  // a document, or the whole, is not what it must be
	Name       Kind = "name"       // the name of a file can be misunderstood
	Load       Kind = "loader"     // a loader that reads the format would refuse it
	Unreadable Kind = "unreadable" // a file that could not be read
)

// MaxProblems is how many problems a Report lists.
const MaxProblems = 100

// Report says what was found. The same content gives the same report.
type Report struct {
	Path   string `json:"path"`
	Format Format `json:"format"`
	// Images are those that it names, in its order, without those whose tag says
	// that they keep referrers, unless it has no others.
	Images []Image `json:"images"`
	// Blobs is how many were hashed, each file once, Bytes their bytes. Lists
	// of images (index.json, manifest.json) are read, and do not count.
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
	// Problems are the first ones, at most MaxProblems; More is how many there
	// are besides.
	Problems []Problem `json:"problems"`
	More     int       `json:"more,omitempty"`
	// Delta is what bases must have, where layers are absent that index.json says
	// were left out (davit pull --since): nothing wrong with the delta.
	Delta []Need `json:"delta,omitempty"`
	// Loaders are docker (its classic store), containerd and podman.
	Loaders []Loader `json:"loaders"`
	// Notes are what a person may want to know and nothing is wrong with.
	Notes []string `json:"notes"`
}

// OK says whether nothing is wrong. That a loader does not read the format at
// all is nothing wrong.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// Image is an image that is named by what was checked.
type Image struct {
	// Name is the full name, or the short one where there is no other. Empty
	// where there is none.
	Name string `json:"name,omitempty"`
	// Digest is that of the index or manifest; empty in an archive that has
	// none, as docker save wrote it.
	Digest digest.Digest `json:"digest,omitempty"`
	// ID is the config's digest, where there is one manifest.
	ID digest.Digest `json:"id,omitempty"`
	// Platforms are those of the image that are there.
	Platforms []string `json:"platforms,omitempty"`
}

// Problem is one thing that is wrong.
type Problem struct {
	What Kind `json:"what"`
	// Subject is the digest of a blob, or the name of a file.
	Subject string `json:"subject"`
	// Text says in one line what is wrong: what was expected, and what found.
	Text string `json:"text"`
	// For is the image that needs it; empty where none is known to.
	For string `json:"for,omitempty"`
}

// Loader says whether a loader would take it.
type Loader struct {
	Name  string `json:"name"`
	Takes bool   `json:"takes"`
	// Why is the reason where it does not, or what to know where it does.
	Why string `json:"why,omitempty"`
}

// Check reads everything that path holds and says what is wrong with it. The
// error is only for what kept it from looking: nothing is there, which wraps
// image.ErrNotFound, it may not be read, ctx has ended. What is wrong with the
// content is in the Report.
func Check(ctx context.Context, path string, opts Options) (Report, error) {
	if opts.Jobs <= 0 {
		opts.Jobs = runtime.GOMAXPROCS(0)
	}
	c := &checker{ctx: ctx, opts: opts, report: Report{Path: path}}
	tree, err := c.open(ctx, path)
	if ofPath, ok := errors.AsType[*fs.PathError](err); ok && ofPath.Path == path {
		err = ofPath.Err
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", path, err)
	}
	defer tree.close()
	c.tree = tree
	c.walk()
	err = context.Cause(ctx) // which may have ended the walk
	if err == nil {
		err = c.readBlobs(ctx)
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", path, err)
	}
	c.judge()
	c.judgeLoaders()
	return c.finish(), nil
}

// open finds out what path is.
func (c *checker) open(ctx context.Context, path string) (*tree, error) {
	set, err := split.Find(path)
	if part, ok := errors.AsType[*split.Error](err); ok {
		return c.brokenParts(part), nil
	}
	if err != nil {
		return nil, err
	}
	if set != nil {
		return c.openParts(ctx, set)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no such file or directory", image.ErrNotFound)
	case err != nil:
		return nil, err
	case info.IsDir():
		return c.openDir(path)
	case info.Mode().IsRegular():
		return c.openArchive(ctx, path)
	}
	return nil, fmt.Errorf("%s is neither a file nor a directory", filepath.Base(path))
}
