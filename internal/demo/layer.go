package demo

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// entry is a file, directory or symbolic link of a layer, owned by root. A
// name that ends in a slash is a directory's.
type entry struct {
	name string
	mode int64
	link string    // a symbolic link's target
	size int64     // a file's size
	data io.Reader // a file's bytes
}

func file(name string, mode int64, data string) entry {
	return entry{name: name, mode: mode, size: int64(len(data)), data: strings.NewReader(data)}
}

// layer is a compressed layer and the digest of what it decompresses to.
type layer struct {
	image.Content
	diffID digest.Digest
}

// newLayer packs entries, in the order given, as a gzipped tar.
func newLayer(entries ...entry) (layer, error) {
	var plain bytes.Buffer
	for _, e := range entries {
		plain.Grow(int(e.size) + 2048)
	}
	w := tar.NewWriter(&plain)
	for _, e := range entries {
		header := &tar.Header{
			Format: tar.FormatUSTAR, Typeflag: tar.TypeReg,
			Name: e.name, Mode: e.mode, Size: e.size, ModTime: created,
		}
		switch {
		case e.link != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		case strings.HasSuffix(e.name, "/"):
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return layer{}, fmt.Errorf("write tar header of %s: %w", e.name, err)
		}
		if e.data == nil {
			continue
		}
		if _, err := io.CopyN(w, e.data, e.size); err != nil {
			return layer{}, fmt.Errorf("write %s to tar: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return layer{}, fmt.Errorf("end tar: %w", err)
	}
	return layer{
		Content: content(ocispec.MediaTypeImageLayerGzip, gzipStored(plain.Bytes())),
		diffID:  digest.FromBytes(plain.Bytes()),
	}, nil
}

// gzipStored wraps data as a gzip file (RFC 1952) of stored blocks (RFC 1951,
// section 3.2.4). What a compressor makes of the same input may change with
// its version; these bytes follow from the two RFCs alone. Nothing is lost:
// nearly all of the image cannot be compressed anyway.
func gzipStored(data []byte) []byte {
	const most = 0xffff // bytes in a stored block
	out := make([]byte, 0, len(data)+(len(data)/most+1)*5+18)
	// deflate, no flags, no time, no extra flags, unknown operating system
	out = append(out, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff)
	for rest, last := data, false; !last; {
		block := rest[:min(most, len(rest))]
		rest = rest[len(block):]
		last = len(rest) == 0
		kind := byte(0)
		if last {
			kind = 1
		}
		out = append(out, kind)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(block)))
		out = binary.LittleEndian.AppendUint16(out, ^uint16(len(block)))
		out = append(out, block...)
	}
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(data))
	return binary.LittleEndian.AppendUint32(out, uint32(len(data)))
}
