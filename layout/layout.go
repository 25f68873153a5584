// Package layout writes OCI image layouts (OCI image-spec, image-layout.md) in
// directories: new ones, or more images into one that is there; and it reads
// them. Processes may write into the same layout at once: a blob is fetched by
// one of them, and no image is lost from index.json.
//
// What is under way stands in .davit-part, outside of blobs. It is gone when
// the layout is whole, but for what other, unfinished runs have left.
//
// Blobs that are there are believed when they were hashed in this run. Links
// in the place of a blob are replaced by the blob; links in the place of
// index.json, blobs, blobs/sha256 or .davit-part are refused, so that nothing
// is written outside of the layout. A reader refuses all of them, but for
// .davit-part, which it does not look at. The layout itself may be named by a
// link.
package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
	"github.com/davit-cli/davit/internal/blobfile"
	"github.com/davit-cli/davit/internal/partial"
)

// Options of Create. The zero value works.
type Options struct {
	// Restart discards what earlier, unfinished runs have left of the images'
	// blobs. Blobs that are whole stay.
	Restart bool
	// Events receives warnings. May be nil.
	Events image.EventFunc
}

// Writer is a layout that images are being written into. It is an image.Output.
type Writer struct {
	dir    string
	images []image.Image
	files  *blobfile.Files
	over   bool
}

var _ image.Output = (*Writer)(nil)

// ErrNoLayout: what is there is no image layout.
var ErrNoLayout = errors.New("it is no image layout")

const (
	blobsName   = "blobs"
	partialName = partial.Suffix // below the layout's directory
	lockName    = "index"        // below partialName: index.json's lock
)

const (
	maxIndexSize   = 64 << 20 // bytes of an index.json that is added to
	maxVersionSize = 64 << 10 // bytes of an oci-layout
)

// Create begins to write images into the layout in dir, which is made, with
// its parents, where it is missing or empty. Another directory that is no
// layout, or a layout of another version or with an index.json that cannot be
// understood, is an error and is not touched. The caller ends with Commit, or
// with Close.
func Create(dir string, images []image.Image, opts Options) (*Writer, error) {
	w := &Writer{
		dir:    dir,
		images: images,
		files:  blobfile.New(blobfile.Options{Restart: opts.Restart, Events: opts.Events}),
	}
	if err := w.note(); err != nil {
		return nil, fmt.Errorf("write the layout %s: %w", dir, err)
	}
	if err := w.begin(); err != nil {
		return nil, fmt.Errorf("write the layout %s: %w", dir, err)
	}
	return w, nil
}

// note checks all digests, which become paths, and notes the blobs to come. A
// layer that is a document of some image is known already.
func (w *Writer) note() error {
	documents := map[digest.Digest]bool{}
	for _, img := range w.images {
		for _, c := range img.Documents() {
			if err := image.CheckDigest(c.Digest); err != nil {
				return err
			}
			documents[c.Digest] = true
		}
	}
	var blobs []digest.Digest
	for _, img := range w.images {
		for _, blob := range img.Blobs() {
			if err := image.CheckDigest(blob.Digest); err != nil {
				return err
			}
			if !documents[blob.Digest] {
				blobs = append(blobs, blob.Digest)
			}
		}
	}
	w.files.Expect(blobs)
	return nil
}

// begin looks at what is there, and makes what every layout has.
func (w *Writer) begin() error {
	made, err := w.look()
	if err != nil {
		return err
	}
	if made {
		return nil
	}
	if err := os.MkdirAll(w.dir, 0o777); err != nil {
		return err
	}
	atomicfile.SyncDir(filepath.Dir(w.dir))
	data, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return atomicfile.Write(w.path(ocispec.ImageLayoutFile), data)
}

func (w *Writer) path(names ...string) string {
	return filepath.Join(append([]string{w.dir}, names...)...)
}

// look says whether a layout is there. It is an error where something else is.
func (w *Writer) look() (bool, error) {
	files, err := os.ReadDir(w.dir)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// The files were listed first: a process that makes the layout right now
	// writes oci-layout before all else.
	version, err := readSmall(w.path(ocispec.ImageLayoutFile), maxVersionSize)
	if os.IsNotExist(err) {
		for _, f := range files {
			if !atomicfile.UnderWay(f.Name()) {
				return false, fmt.Errorf("%w: the directory has %s but no %s", ErrNoLayout, f.Name(), ocispec.ImageLayoutFile)
			}
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v, err := readVersion(version)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", ocispec.ImageLayoutFile, err)
	}
	if v != ocispec.ImageLayoutVersion {
		return false, fmt.Errorf("its image layout is of version %q, davit writes %s", v, ocispec.ImageLayoutVersion)
	}
	if _, err := w.readIndex(); err != nil {
		return false, err
	}
	for _, dir := range []string{partialName, blobsName, filepath.Join(blobsName, "sha256"), filepath.Join(blobsName, "sha512")} {
		if err := blobfile.CheckDir(w.path(dir)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// readIndex reads index.json; where there is none, it is empty.
func (w *Writer) readIndex() (*index, error) {
	data := []byte(emptyIndex)
	info, err := os.Lstat(w.path(ocispec.ImageIndexFile))
	switch {
	case os.IsNotExist(err):
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file, which davit could replace", w.path(ocispec.ImageIndexFile))
	default:
		if data, err = readSmall(w.path(ocispec.ImageIndexFile), maxIndexSize); err != nil {
			return nil, err
		}
	}
	x, err := readIndex(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	return x, nil
}

// readVersion reads an oci-layout (image-layout.md, "oci-layout file").
func readVersion(b []byte) (string, error) {
	var l ocispec.ImageLayout
	err := json.Unmarshal(b, &l)
	return l.Version, err
}

// readSmall reads a file that has at most so many bytes.
func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("read %s: it has more than %d bytes", path, most)
	}
	return b, err
}

// Place is where a blob of the images is to be written. It is nil where the
// layout has the blob, which was hashed. The error is image.ErrBusy where
// another process is fetching it.
func (w *Writer) Place(ctx context.Context, blob image.Descriptor) (image.Place, error) {
	if !w.files.Expects(blob.Digest) {
		return nil, fmt.Errorf("open blob %s: it is none of the images'", blob.Digest)
	}
	where, err := w.where(blob.Digest)
	if err != nil {
		return nil, err
	}
	return w.files.Place(ctx, blob, where)
}

// where makes a blob's directory and tells its paths. The digest is checked.
func (w *Writer) where(d digest.Digest) (blobfile.Where, error) {
	algorithm, hex := d.Algorithm().String(), d.Encoded()
	dir, err := blobfile.MakeDir(w.dir, blobsName, algorithm)
	if err == nil {
		err = blobfile.CheckDir(w.path(partialName))
	}
	if err != nil {
		return blobfile.Where{}, fmt.Errorf("open blob %s: %w", d, err)
	}
	return blobfile.Where{
		File:    filepath.Join(dir, hex),
		Partial: w.path(partialName, algorithm+"-"+hex),
	}, nil
}

// Done is called when a blob that got a place is whole and verified.
func (w *Writer) Done(blob image.Descriptor) error {
	return w.files.Done(blob)
}

// Commit writes the images' documents, then index.json, in which each image
// takes the place of what had its full name. Every other entry stays as it
// is, but for the ref.names of entries that have a full name (image.RefNames).
// Entries that are not davit's to name come first, in their order, then the
// others by full name. What is written is on the disk before index.json is.
//
// On error index.json is as it was, and Close is still due.
func (w *Writer) Commit(ctx context.Context) error {
	if err := w.commit(ctx); err != nil {
		return fmt.Errorf("finish the layout %s: %w", w.dir, err)
	}
	return nil
}

func (w *Writer) commit(ctx context.Context) error {
	if err := w.files.Complete(); err != nil {
		return err
	}
	algorithms := map[string]bool{}
	for _, img := range w.images {
		for _, blob := range img.Blobs() {
			algorithms[blob.Digest.Algorithm().String()] = true
		}
		for _, c := range img.Documents() {
			algorithms[c.Digest.Algorithm().String()] = true
			where, err := w.where(c.Digest)
			if err != nil {
				return err
			}
			if err := w.files.Put(ctx, c, where); err != nil {
				return err
			}
		}
	}
	for a := range algorithms { // which other processes may have written into, just now
		atomicfile.SyncDir(w.path(blobsName, a))
	}
	atomicfile.SyncDir(w.path(blobsName))
	if err := w.enter(ctx); err != nil {
		return err
	}
	w.tidy()
	w.over = true
	return nil
}

// enter puts the images into index.json, while no other process does so.
func (w *Writer) enter(ctx context.Context) (err error) {
	if err := blobfile.CheckDir(w.path(partialName)); err != nil {
		return err
	}
	unlock, err := partial.Lock(ctx, w.path(partialName, lockName))
	if err != nil {
		return fmt.Errorf("lock %s: %w", ocispec.ImageIndexFile, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	x, err := w.readIndex()
	if err != nil {
		return err
	}
	if err := x.add(w.images); err != nil {
		return err
	}
	if err := x.leaveOut(w.images, w.has); err != nil {
		return err
	}
	if err := x.nameAll(); err != nil {
		return err
	}
	x.order()
	data, err := x.encode()
	if err != nil {
		return fmt.Errorf("encode %s: %w", ocispec.ImageIndexFile, err)
	}
	if err := atomicfile.Clean(w.path(ocispec.ImageIndexFile)); err != nil {
		return err
	}
	return atomicfile.Write(w.path(ocispec.ImageIndexFile), data)
}

// has says whether a blob's file is there.
func (w *Writer) has(d digest.Digest) bool {
	if image.CheckDigest(d) != nil {
		return false
	}
	info, err := os.Lstat(w.path(blobsName, d.Algorithm().String(), d.Encoded()))
	return err == nil && info.Mode().IsRegular()
}

// tidy removes what is empty now; another process may still need it.
func (w *Writer) tidy() { _ = os.Remove(w.path(partialName)) }

// Close gives the images up, and keeps what is there of them for the next run.
// After Commit it does nothing. It may be called more than once.
func (w *Writer) Close() error {
	if w.over {
		return nil
	}
	err := w.files.Close()
	w.tidy()
	return err
}
