package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Chunked is how a layer is made so that its files can be read one by one.
type Chunked int

// The formats of chunked layers.
const (
	// EStargz is what containerd's stargz-snapshotter makes: gzip, with a
	// landmark file before the others and the table, stargz.index.json, after them.
	EStargz Chunked = iota + 1
	// ZstdChunked is what podman and skopeo make: zstd, with the layer's own tar.
	ZstdChunked
)

// DefaultChunk is how many bytes of a file a chunk has at most.
const DefaultChunk = 64 << 10

// tocEntry is an entry of the table of a chunked layer, of either format.
type tocEntry struct {
	Type        string            `json:"type"`
	Name        string            `json:"name"`
	LinkName    string            `json:"linkName,omitempty"`
	Mode        int64             `json:"mode,omitempty"`
	Size        int64             `json:"size,omitempty"`
	UID         int               `json:"uid,omitempty"`
	GID         int               `json:"gid,omitempty"`
	UserName    string            `json:"userName,omitempty"`
	GroupName   string            `json:"groupName,omitempty"`
	ModTime     string            `json:"modtime,omitempty"`
	DevMajor    int64             `json:"devMajor,omitempty"`
	DevMinor    int64             `json:"devMinor,omitempty"`
	Xattrs      map[string][]byte `json:"xattrs,omitempty"`
	Digest      digest.Digest     `json:"digest,omitempty"`
	Offset      int64             `json:"offset,omitempty"`
	EndOffset   int64             `json:"endOffset,omitempty"`
	ChunkSize   int64             `json:"chunkSize,omitempty"`
	ChunkOffset int64             `json:"chunkOffset,omitempty"`
	ChunkDigest digest.Digest     `json:"chunkDigest,omitempty"`
	ChunkType   string            `json:"chunkType,omitempty"`
}

// chunkedLayer is a chunked layer while it is written.
type chunkedLayer struct {
	format  Chunked
	chunk   int64
	out     bytes.Buffer
	stream  io.WriteCloser // the gzip member or zstd frame that is open; nil: none is
	gzip    *gzip.Writer
	zstd    *zstd.Encoder
	decoded hash.Hash // of all streams
	entries []tocEntry
	users   map[int]string
	groups  map[int]string
}

// buildChunked writes the layer's tar as a chunked layer.
func (l Layer) buildChunked(plain io.Reader) (blob []byte, diffID digest.Digest, annotations map[string]string, err error) {
	c := &chunkedLayer{format: l.Chunked, chunk: l.ChunkSize, decoded: digest.SHA256.Hash(), users: map[int]string{}, groups: map[int]string{}}
	if c.chunk <= 0 {
		c.chunk = DefaultChunk
	}
	w := tar.NewWriter(c)
	if c.format == EStargz {
		landmark := &tar.Header{Name: ".no.prefetch.landmark", Typeflag: tar.TypeReg, Size: 1}
		if err := c.add(w, landmark, []byte{0xf}); err != nil {
			return nil, "", nil, err
		}
	}
	in := tar.NewReader(plain)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, "", nil, err
		}
		body, err := io.ReadAll(in)
		if err != nil {
			return nil, "", nil, err
		}
		if err := c.add(w, h, body); err != nil {
			return nil, "", nil, err
		}
	}
	if c.format == EStargz {
		annotations, err = c.endStargz()
	} else {
		annotations, err = c.endZstd(w)
	}
	return c.out.Bytes(), digest.NewDigest(digest.SHA256, c.decoded), annotations, err
}

// Write continues the stream that is open, or begins one.
func (c *chunkedLayer) Write(p []byte) (int, error) {
	if c.stream == nil {
		var err error
		if c.stream, err = c.begin(&c.out); err != nil {
			return 0, err
		}
	}
	c.decoded.Write(p)
	return c.stream.Write(p)
}

func (c *chunkedLayer) begin(w io.Writer) (io.WriteCloser, error) {
	var err error
	switch {
	case c.format == EStargz && c.gzip == nil:
		c.gzip, err = gzip.NewWriterLevel(w, gzip.BestSpeed)
	case c.format == EStargz:
		c.gzip.Reset(w)
	case c.zstd == nil:
		c.zstd, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	default:
		c.zstd.Reset(w)
	}
	if c.format == EStargz {
		return c.gzip, err
	}
	return c.zstd, err
}

// cut ends the stream that is open, and tells where the next one begins.
func (c *chunkedLayer) cut() (int64, error) {
	if c.stream != nil {
		if err := c.stream.Close(); err != nil {
			return 0, err
		}
		c.stream = nil
	}
	return int64(c.out.Len()), nil
}

// add writes a file, each of its chunks as a stream.
func (c *chunkedLayer) add(w *tar.Writer, h *tar.Header, body []byte) error {
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("write the header of %s: %w", h.Name, err)
	}
	e, err := c.entry(h)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg && (len(body) > 0 || c.format == EStargz) {
		e.Digest = digest.FromBytes(body)
	}
	entries := []tocEntry{e}
	for at := int64(0); at < int64(len(body)); at += c.chunk {
		piece := body[at:min(at+c.chunk, int64(len(body)))]
		off, err := c.cut()
		if err != nil {
			return err
		}
		if at > 0 {
			entries = append(entries, tocEntry{Type: "chunk", Name: h.Name, ChunkOffset: at})
		}
		last := &entries[len(entries)-1]
		last.Offset = off
		if c.format == EStargz || int64(len(body)) > c.chunk {
			last.ChunkDigest = digest.FromBytes(piece)
		}
		switch {
		case c.format == EStargz && int64(len(piece)) == c.chunk: // a shorter one reaches to the file's end
			last.ChunkSize = c.chunk
		case c.format == ZstdChunked && int64(len(body)) > c.chunk:
			last.ChunkSize = int64(len(piece))
			if len(bytes.TrimLeft(piece, "\x00")) == 0 {
				last.ChunkType = "zeros"
			}
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if c.format == ZstdChunked && len(body) > 0 {
		if entries[0].EndOffset, err = c.cut(); err != nil {
			return err
		}
	}
	c.entries = append(c.entries, entries...)
	return w.Flush()
}

func (c *chunkedLayer) entry(h *tar.Header) (tocEntry, error) {
	kind, ok := map[byte]string{
		tar.TypeDir: "dir", tar.TypeReg: "reg", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink",
		tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
	}[h.Typeflag]
	if !ok {
		return tocEntry{}, fmt.Errorf("no table tells entries of type %q", h.Typeflag)
	}
	e := tocEntry{
		Type: kind, Name: h.Name, LinkName: h.Linkname, Mode: h.Mode, UID: h.Uid, GID: h.Gid,
		DevMajor: h.Devmajor, DevMinor: h.Devminor,
	}
	if h.Typeflag == tar.TypeReg {
		e.Size = h.Size
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[name] = []byte(v)
		}
	}
	if c.format == ZstdChunked {
		if !h.ModTime.IsZero() {
			e.ModTime = h.ModTime.UTC().Format(time.RFC3339Nano)
		}
		return e, nil
	}
	if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
		e.ModTime = h.ModTime.UTC().Round(time.Second).Format(time.RFC3339)
	}
	if h.Uname != "" && h.Uname != c.users[h.Uid] {
		e.UserName, c.users[h.Uid] = h.Uname, h.Uname
	}
	if h.Gname != "" && h.Gname != c.groups[h.Gid] {
		e.GroupName, c.groups[h.Gid] = h.Gname, h.Gname
	}
	return e, nil
}

// endStargz writes the table, a tar of one file as the tar's last entry, and the
// footer.
func (c *chunkedLayer) endStargz() (map[string]string, error) {
	off, err := c.cut()
	if err != nil {
		return nil, err
	}
	table, err := c.table("\t")
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(c)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "stargz.index.json", Size: int64(len(table))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(table); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if _, err := c.cut(); err != nil {
		return nil, err
	}
	// An empty member, whose header has the offset (RFC 1952, 2.3.1.1).
	c.out.WriteString("\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x1a\x00SG\x16\x00")
	fmt.Fprintf(&c.out, "%016xSTARGZ", off)
	c.out.WriteString("\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	return map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromBytes(table).String()}, nil
}

// endZstd writes the table and the footer, in frames that decoders skip.
func (c *chunkedLayer) endZstd(w *tar.Writer) (map[string]string, error) {
	if err := w.Close(); err != nil {
		return nil, err
	}
	if _, err := c.cut(); err != nil {
		return nil, err
	}
	table, err := c.table("")
	if err != nil {
		return nil, err
	}
	var compressed bytes.Buffer
	z, err := c.begin(&compressed)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(table); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	off := c.out.Len() + 8
	c.skipped(compressed.Bytes())
	var footer []byte
	for _, n := range []int{off, compressed.Len(), len(table), 1, 0, 0, 0} {
		footer = binary.LittleEndian.AppendUint64(footer, uint64(n))
	}
	c.skipped(append(footer, "GNUlInUx"...))
	return map[string]string{
		"io.github.containers.zstd-chunked.manifest-checksum": digest.FromBytes(compressed.Bytes()).String(),
		"io.github.containers.zstd-chunked.manifest-position": fmt.Sprintf("%d:%d:%d:1", off, compressed.Len(), len(table)),
	}, nil
}

// skipped writes a frame to be skipped (RFC 8878, 3.1.2).
func (c *chunkedLayer) skipped(data []byte) {
	c.out.WriteString("\x50\x2a\x4d\x18")
	c.out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data))))
	c.out.Write(data)
}

func (c *chunkedLayer) table(indent string) ([]byte, error) {
	table := struct {
		Version int        `json:"version"`
		Entries []tocEntry `json:"entries"`
	}{1, c.entries}
	if indent == "" {
		return json.Marshal(table)
	}
	return json.MarshalIndent(table, "", indent)
}

// annotated are the layer's annotations, and where it has none of that name
// those of its format.
func (l Layer) annotated(of map[string]string) map[string]string {
	all := maps.Clone(of)
	if all == nil {
		return l.Annotations
	}
	maps.Copy(all, l.Annotations)
	return all
}
