package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Time is the time of everything that the builder makes.
var Time = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// Compression is how a layer's tar is served.
type Compression int

// The compressions.
const (
	Gzip Compression = iota
	Zstd
	None
)

// Layer is a layer to build. Its tar is Tar where that is set, the one that
// RandomLayer describes, or made of Files.
type Layer struct {
	Files       []File
	Tar         []byte
	Compression Compression
	// Chunked makes it a layer with a table of contents, whatever Compression
	// says, with annotations that tell where; 0 does not. ChunkSize is how many
	// bytes of a file a chunk has at most, 0 for DefaultChunk.
	Chunked   Chunked
	ChunkSize int64
	// MediaType is "" for the one that the compression and the image's
	// format have.
	MediaType   string
	URLs        []string
	Annotations map[string]string
	// Absent leaves the blob out of the registry.
	Absent bool

	random *randomTar
}

// RandomLayer returns a layer whose tar has size bytes (rounded up to whole
// blocks of 512, at least 2048): one file of incompressible bytes, the same for
// the same seed. With Compression None, and with that alone, it is never held
// in memory, however large; Gzip stores it in blocks that are not compressed.
func RandomLayer(seed uint64, size int64) Layer {
	return Layer{random: &randomTar{seed: seed, size: max(2048, (size+511)/512*512)}}
}

// File is an entry of a layer. Zero fields of the header get a value: Typeflag
// by the name's last slash, Mode 0755 or 0644, ModTime Time, Size len(Body).
type File struct {
	tar.Header
	Body []byte
}

// Text is a regular file.
func Text(name, content string) File {
	return File{Header: tar.Header{Name: name}, Body: []byte(content)}
}

// Dir is a directory.
func Dir(name string) File {
	return File{Header: tar.Header{Name: strings.TrimSuffix(name, "/") + "/"}}
}

// Symlink is a symbolic link to target.
func Symlink(name, target string) File {
	return File{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}

// Hardlink is another name of the entry target.
func Hardlink(name, target string) File {
	return File{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}}
}

// builtLayer is a layer with its bytes as served.
type builtLayer struct {
	descriptor image.Descriptor
	diffID     digest.Digest
	content    io.ReaderAt
}

func (l Layer) build(docker bool, algorithm digest.Algorithm) (builtLayer, error) {
	plain, size, err := l.tar()
	if err != nil {
		return builtLayer{}, err
	}
	diffID, err := digest.SHA256.FromReader(io.NewSectionReader(plain, 0, size))
	if err != nil {
		return builtLayer{}, fmt.Errorf("hash a layer: %w", err)
	}
	content := plain
	var annotations map[string]string
	switch {
	case l.Chunked != 0:
		l.Compression = map[Chunked]Compression{EStargz: Gzip, ZstdChunked: Zstd}[l.Chunked]
		var blob []byte
		if blob, diffID, annotations, err = l.buildChunked(io.NewSectionReader(plain, 0, size)); err != nil {
			return builtLayer{}, fmt.Errorf("make a chunked layer: %w", err)
		}
		content, size = bytes.NewReader(blob), int64(len(blob))
	case l.Compression != None:
		compressed, err := l.compress(io.NewSectionReader(plain, 0, size))
		if err != nil {
			return builtLayer{}, fmt.Errorf("compress a layer: %w", err)
		}
		content, size = bytes.NewReader(compressed), int64(len(compressed))
	}
	served := diffID
	if l.Compression != None || algorithm != digest.SHA256 {
		if served, err = algorithm.FromReader(io.NewSectionReader(content, 0, size)); err != nil {
			return builtLayer{}, fmt.Errorf("hash a layer: %w", err)
		}
	}
	return builtLayer{
		descriptor: image.Descriptor{
			MediaType:   l.mediaType(docker),
			Digest:      served,
			Size:        size,
			URLs:        l.URLs,
			Annotations: l.annotated(annotations),
		},
		diffID:  diffID,
		content: content,
	}, nil
}

func (l Layer) mediaType(docker bool) string {
	if l.MediaType != "" {
		return l.MediaType
	}
	if docker {
		return "application/vnd.docker.image.rootfs.diff.tar" + map[Compression]string{Gzip: ".gzip", Zstd: ".zstd"}[l.Compression]
	}
	return "application/vnd.oci.image.layer.v1.tar" + map[Compression]string{Gzip: "+gzip", Zstd: "+zstd"}[l.Compression]
}

func (l Layer) compress(plain io.Reader) ([]byte, error) {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch {
	case l.Compression == Zstd:
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	case l.random != nil:
		w, err = gzip.NewWriterLevel(&out, gzip.NoCompression)
	default:
		w, err = gzip.NewWriterLevel(&out, gzip.BestSpeed)
	}
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// tar returns the layer's tar and its size.
func (l Layer) tar() (io.ReaderAt, int64, error) {
	if l.Tar != nil {
		return bytes.NewReader(l.Tar), int64(len(l.Tar)), nil
	}
	if l.random != nil {
		content, err := l.random.build()
		return content, l.random.size, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range l.Files {
		h := f.header()
		if err := w.WriteHeader(h); err != nil {
			return nil, 0, fmt.Errorf("write the header of %s: %w", h.Name, err)
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, 0, fmt.Errorf("write %s: %w", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, 0, fmt.Errorf("end a layer's tar: %w", err)
	}
	return bytes.NewReader(out.Bytes()), int64(out.Len()), nil
}

func (f File) header() *tar.Header {
	h := f.Header
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
	}
	if h.Mode == 0 {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
	}
	if h.ModTime.IsZero() {
		h.ModTime = Time
	}
	if h.Size == 0 {
		h.Size = int64(len(f.Body))
	}
	return &h
}

// randomTar is the tar of a RandomLayer.
type randomTar struct {
	seed uint64
	size int64
}

func (t randomTar) build() (io.ReaderAt, error) {
	header := int64(512)
	for {
		var out bytes.Buffer
		body := t.size - header - 1024
		err := tar.NewWriter(&out).WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg,
			Name:     fmt.Sprintf("random-%016x", t.seed),
			Mode:     0o644,
			ModTime:  Time,
			Size:     body,
		})
		if err != nil {
			return nil, fmt.Errorf("write the header of a random layer: %w", err)
		}
		header = int64(out.Len()) // longer for a file of 8 GiB and more
		if trailer := t.size - header - body; trailer >= 1024 {
			return parts{
				{bytes.NewReader(out.Bytes()), header},
				{RandomContent(t.seed, body), body},
				{bytes.NewReader(make([]byte, trailer)), trailer},
			}, nil
		}
	}
}

// parts is content put together.
type parts []part

type part struct {
	content io.ReaderAt
	size    int64
}

func (ps parts) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for _, part := range ps {
		if off >= part.size {
			off -= part.size
			continue
		}
		want := int(min(int64(len(p)-n), part.size-off))
		m, err := part.content.ReadAt(p[n:n+want], off)
		n += m
		if m < want {
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
		off = 0
	}
	return n, io.EOF
}
