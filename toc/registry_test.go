package toc_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/toc"
	"github.com/davit-cli/davit/transfer"
)

// A file is read by a table from a registry, through the engine's sections,
// with the faults that registries have.
func TestFromRegistry(t *testing.T) {
	content := bytes.Repeat([]byte("some content\n"), 20_000)
	for name, fault := range map[string]func(o *registrytest.Options){
		"none":        func(*registrytest.Options) {},
		"redirect":    func(o *registrytest.Options) { o.Redirect = &registrytest.Redirect{} },
		"cut":         func(o *registrytest.Options) { o.Cut = &registrytest.Cut{After: 700} },
		"busy":        func(o *registrytest.Options) { o.Busy = &registrytest.Busy{Times: 2, Match: registrytest.Blobs} },
		"no lengths":  func(o *registrytest.Options) { o.ChunkedBlobs = true },
		"strict":      func(o *registrytest.Options) { o.Ranges = registrytest.RangesStrict },
		"ignored":     func(o *registrytest.Options) { o.Ranges = registrytest.RangesIgnored },
		"refused":     func(o *registrytest.Options) { o.Ranges = registrytest.RangesBadRequest },
		"wrong label": func(o *registrytest.Options) { o.Ranges = registrytest.RangesWrong },
		"shifted":     func(o *registrytest.Options) { o.Ranges = registrytest.RangesShifted },
		"no label":    func(o *registrytest.Options) { o.Ranges = registrytest.RangesUnlabelled },
	} {
		for format, chunked := range map[string]registrytest.Chunked{"eStargz": registrytest.EStargz, "zstd:chunked": registrytest.ZstdChunked} {
			t.Run(name+", "+format, func(t *testing.T) {
				server := registrytest.Start(t, registrytest.Options{})
				pushed := server.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{{Chunked: chunked, Files: []registrytest.File{
					{Header: tar.Header{Name: "large"}, Body: make([]byte, 1<<20)},
					{Header: tar.Header{Name: "file"}, Body: content},
				}}}})
				server.Configure(fault)
				read := sections(t, server, pushed.Layers[0])
				got, err := fileOf(t.Context(), pushed.Layers[0], read, "file")
				var noRange *image.NoRangeError
				switch name {
				case "ignored", "refused", "wrong label", "shifted", "no label":
					if !errors.As(err, &noRange) || len(got) > 0 {
						t.Errorf("%d bytes, %v; want an image.NoRangeError", len(got), err)
					}
				default:
					if err != nil || !bytes.Equal(got, content) {
						t.Errorf("%d bytes, %v; want %d", len(got), err, len(content))
					}
				}
			})
		}
	}
}

// sections read a layer from a server.
func sections(t *testing.T, server *registrytest.Server, layer image.Descriptor) toc.ReadFunc {
	t.Helper()
	name, err := ref.Parse(server.Host() + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	session := registry.NewSession(registry.Options{Retries: -1})
	t.Cleanup(func() { _ = session.Close() })
	source, err := session.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	item := transfer.Item{Blob: layer, Source: source}
	return func(ctx context.Context, off, n int64, w io.Writer) error {
		return transfer.Section(ctx, item, off, n, w, transfer.Options{Backoff: time.Millisecond})
	}
}

func fileOf(ctx context.Context, layer image.Descriptor, read toc.ReadFunc, name string) ([]byte, error) {
	table, err := toc.Open(ctx, layer, read, nil)
	if err != nil {
		return nil, err
	}
	for i := range table.Len() {
		if table.Header(i).Name == name {
			var out bytes.Buffer
			err := table.Content(ctx, i, &out)
			return out.Bytes(), err
		}
	}
	return nil, image.ErrNotFound
}
