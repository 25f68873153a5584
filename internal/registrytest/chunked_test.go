package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// A chunked layer is one as any other, for whoever does not look for its table.
func TestChunkedLayer(t *testing.T) {
	big := File{Header: tar.Header{Name: "big"}, Body: append(bytes.Repeat([]byte("abc"), 1000), make([]byte, 9000)...)}
	layer := Layer{ChunkSize: 4000, Files: []File{Dir("etc"), Text("etc/motd", "hello\n"), big, Symlink("link", "big"), Text("empty", "")}}
	plain := Build(Image{Layers: []Layer{layer}})
	for format, test := range map[Chunked]struct {
		decode func(io.Reader) (io.Reader, error)
		before []string
		after  []string
	}{
		EStargz: {
			decode: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
			before: []string{".no.prefetch.landmark"}, after: []string{"stargz.index.json"},
		},
		ZstdChunked: {
			decode: func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
		},
	} {
		layer.Chunked = format
		p := Build(Image{Layers: []Layer{layer}})
		if again := Build(Image{Layers: []Layer{layer}}); again.Manifest.Digest != p.Manifest.Digest {
			t.Errorf("%d: not the same each time", format)
		}
		r, err := test.decode(bytes.NewReader(p.LayerBytes(0)))
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := io.ReadAll(r)
		if err != nil || digest.FromBytes(decoded) != p.DiffIDs[0] {
			t.Errorf("%d: it does not decode to its diffID (%v)", format, err)
		}
		if format == ZstdChunked && p.DiffIDs[0] != plain.DiffIDs[0] {
			t.Error("the tar of a zstd:chunked layer is not the layer's")
		}
		var names []string
		for in := tar.NewReader(bytes.NewReader(decoded)); ; {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
		want := append(append(test.before, "etc/", "etc/motd", "big", "link", "empty"), test.after...)
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%d: entries (-want +got):\n%s", format, diff)
		}
		if media := p.Layers[0].MediaType; !strings.HasSuffix(media, map[Chunked]string{EStargz: "+gzip", ZstdChunked: "+zstd"}[format]) {
			t.Errorf("%d: media type %s", format, media)
		}
	}
}
