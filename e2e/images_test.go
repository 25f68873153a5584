package e2e

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// compression is how a layer's tar is stored; it is also the end of its media type.
type compression string

const (
	plain     compression = ""
	gzipped   compression = "+gzip"
	zstandard compression = "+zstd"
)

// layer is a layer as a registry serves it, in a file.
type layer struct {
	descriptor ocispec.Descriptor
	diffID     digest.Digest
	path       string
}

func (l layer) open(t testing.TB) io.ReadCloser {
	t.Helper()
	f, err := os.Open(l.path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ociImage is an image of one platform.
type ociImage struct {
	platform  *ocispec.Platform // as the index has it
	manifest  ocispec.Descriptor
	raw       []byte
	config    ocispec.Descriptor
	rawConfig []byte
	layers    []layer
}

// size returns the bytes of all blobs.
func (m *ociImage) size() int64 {
	n := m.config.Size
	for _, l := range m.layers {
		n += l.descriptor.Size
	}
	return n
}

// index is what a tag names: an index of several images, or the manifest of the one.
type index struct {
	root   ocispec.Descriptor
	raw    []byte
	images []*ociImage
}

// tree collects the digests of files that go into an image, so that a container
// can be asked whether it has exactly these.
type tree map[string]string

// sum returns what the shell command sumCommand prints for the files of all trees.
func sum(trees ...tree) string {
	all := tree{}
	for _, t := range trees {
		maps.Copy(all, t)
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		_, _ = fmt.Fprintf(h, "%s  %s\n", all[name], name) // a hash takes all
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sumCommand prints one digest of all regular files below /opt.
const sumCommand = "cd / && find opt -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"

// makeLayer writes a layer of what write puts into its tar.
func makeLayer(t testing.TB, c compression, write func(io.Writer) error) layer {
	t.Helper()
	f, err := os.CreateTemp(shared, "layer-*")
	if err != nil {
		t.Fatal(err)
	}
	diff, blob := sha256.New(), sha256.New()
	var size counter
	w, err := compressor(c, io.MultiWriter(f, blob, &size))
	if err != nil {
		t.Fatal(err)
	}
	err = write(io.MultiWriter(w, diff))
	if err = errors.Join(err, w.Close(), f.Close()); err != nil {
		t.Fatalf("make a layer: %v", err)
	}
	return layer{
		descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer + string(c), Digest: digest.NewDigest(digest.SHA256, blob), Size: int64(size)},
		diffID:     digest.NewDigest(digest.SHA256, diff),
		path:       f.Name(),
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func compressor(c compression, w io.Writer) (io.WriteCloser, error) {
	switch c {
	case gzipped:
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case zstandard:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	default:
		return nopCloser{w}, nil
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// fromFile puts a tar that is there already into a layer.
func fromFile(path string) func(io.Writer) error {
	return func(w io.Writer) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it is only read
		_, err = io.Copy(w, f)
		return err
	}
}

// addTree puts directories and files from dir into a tar, below name, and
// notes the files in sums. only is empty for all of them.
func addTree(w *tar.Writer, dir, name string, sums tree, only ...string) error {
	if len(only) == 0 {
		only = []string{"."}
	}
	for _, root := range only {
		err := filepath.WalkDir(filepath.Join(dir, root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			inside, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			return addFile(w, path, filepath.ToSlash(filepath.Join(name, inside)), entry, sums)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func addFile(w *tar.Writer, path, name string, entry fs.DirEntry, sums tree) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "root", "root"
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is only read
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), f); err != nil {
		return err
	}
	sums[name] = hex.EncodeToString(h.Sum(nil))
	return nil
}

// treeLayer is a layer with a real file tree in it.
func treeLayer(t testing.TB, c compression, dir, name string, only ...string) (layer, tree) {
	t.Helper()
	sums := tree{}
	l := makeLayer(t, c, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := addTree(tw, dir, name, sums, only...); err != nil {
			return err
		}
		return tw.Close()
	})
	if len(sums) == 0 {
		t.Fatalf("%s %v: no files in it", dir, only)
	}
	return l, sums
}

// makeImage makes an image of layers. The platform is of its config.
func makeImage(t testing.TB, p ocispec.Platform, config ocispec.ImageConfig, layers ...layer) *ociImage {
	t.Helper()
	c := ocispec.Image{Platform: p, Config: config, RootFS: ocispec.RootFS{Type: "layers"}}
	m := &ociImage{platform: &p, layers: layers}
	var descriptors []ocispec.Descriptor
	for i, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.diffID)
		c.History = append(c.History, ocispec.History{CreatedBy: fmt.Sprintf("layer %d", i)})
		descriptors = append(descriptors, l.descriptor)
	}
	m.config, m.rawConfig = encode(t, ocispec.MediaTypeImageConfig, c)
	m.manifest, m.raw = encode(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    m.config,
		Layers:    descriptors,
	})
	return m
}

// attest makes what buildkit stores beside an image to say how it was built.
func attest(t testing.TB, m *ociImage) *ociImage {
	t.Helper()
	statement := makeLayer(t, plain, func(w io.Writer) error {
		_, err := io.WriteString(w, `{"_type":"https://in-toto.io/Statement/v0.1"}`)
		return err
	})
	statement.descriptor.MediaType = "application/vnd.in-toto+json"
	a := makeImage(t, ocispec.Platform{OS: "unknown", Architecture: "unknown"}, ocispec.ImageConfig{}, statement)
	a.manifest.Annotations = map[string]string{
		"vnd.docker.reference.digest": m.manifest.Digest.String(),
		"vnd.docker.reference.type":   "attestation-manifest",
	}
	return a
}

// single is a tag that names one image's manifest.
func single(m *ociImage) *index {
	return &index{root: m.manifest, raw: m.raw, images: []*ociImage{m}}
}

// multi is a tag that names an index.
func multi(t testing.TB, images ...*ociImage) *index {
	t.Helper()
	x := &index{images: images}
	var manifests []ocispec.Descriptor
	for _, m := range images {
		d := m.manifest
		d.Platform = m.platform
		manifests = append(manifests, d)
	}
	x.root, x.raw = encode(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: manifests,
	})
	return x
}

func encode(t testing.TB, mediaType string, v any) (ocispec.Descriptor, []byte) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw
}
