package toc

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
	"github.com/davit-cli/davit/internal/registrytest"
)

// layer is a layer in memory, and what was read of it.
type layer struct {
	image.Descriptor
	blob   []byte
	reads  int
	served int64
}

func (l *layer) read(_ context.Context, off, n int64, w io.Writer) error {
	l.reads++
	for n > 0 {
		m, err := w.Write(l.blob[off : off+min(n, 10_000)])
		l.served += int64(m)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		off, n = off+int64(m), n-int64(m)
	}
	return nil
}

func (l *layer) open(t *testing.T) *Table {
	t.Helper()
	table, err := Open(t.Context(), l.Descriptor, l.read, nil)
	if err != nil || table == nil {
		t.Fatalf("Open: %v, %v", table, err)
	}
	return table
}

func build(of registrytest.Layer) *layer {
	p := registrytest.Build(registrytest.Image{Layers: []registrytest.Layer{of}})
	return &layer{Descriptor: p.Layers[0], blob: p.LayerBytes(0)}
}

var formats = map[string]registrytest.Chunked{"estargz": registrytest.EStargz, "zstd:chunked": registrytest.ZstdChunked}

func random(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(p)
	return p
}

// files are entries of every kind, and contents that are cut into chunks.
func files() []registrytest.File {
	mixed := append(append(random(100_000), make([]byte, 200_000)...), random(50_001)...)
	of := func(h tar.Header) registrytest.File { return registrytest.File{Header: h} }
	return []registrytest.File{
		registrytest.Dir("etc"),
		registrytest.Text("etc/motd", "hello\n"),
		registrytest.Text("etc/empty", ""),
		registrytest.Symlink("etc/link", "../etc/motd"),
		registrytest.Hardlink("etc/hard", "etc/motd"),
		of(tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}),
		of(tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8}),
		of(tar.Header{Name: "run/fifo", Typeflag: tar.TypeFifo}),
		registrytest.Text("etc/.wh.old", ""),
		{Header: tar.Header{Name: "owned", Uid: 7, Gid: 8, Uname: "u", Gname: "g", Mode: 0o4755, ModTime: time.Unix(1, 0)}, Body: []byte("x")},
		{Header: tar.Header{Name: "owned too", Uid: 7, Gid: 8, Uname: "u", Gname: "g",
			PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v\x00w"}}, Body: []byte("y")},
		{Header: tar.Header{Name: strings.Repeat("long/", 60) + "../name\x1b"}, Body: mixed},
		{Header: tar.Header{Name: "zeros"}, Body: make([]byte, 300_000)},
		{Header: tar.Header{Name: "chunk"}, Body: random(registrytest.DefaultChunk)},
		{Header: tar.Header{Name: "chunks"}, Body: random(2 * registrytest.DefaultChunk)},
	}
}

// A table tells what the layer's tar has, and gives its files.
func TestTable(t *testing.T) {
	for name, format := range formats {
		for _, size := range []int64{0, 10_000, 1 << 20} {
			t.Run(fmt.Sprintf("%s, chunks of %d", name, size), func(t *testing.T) {
				l := build(registrytest.Layer{Files: files(), Chunked: format, ChunkSize: size})
				table := l.open(t)
				decoded, _, end, err := compress.NewReader(bytes.NewReader(l.blob))
				if err != nil {
					t.Fatal(err)
				}
				defer end()
				in := tar.NewReader(decoded)
				for i := range table.Len() {
					h, err := in.Next()
					if err != nil {
						t.Fatalf("the table has %d entries, the tar %d: %v", table.Len(), i, err)
					}
					content, err := io.ReadAll(in)
					if err != nil {
						t.Fatal(err)
					}
					if format == registrytest.ZstdChunked {
						h.Uname, h.Gname = "", "" // which its tables do not tell
					}
					checkHeader(t, h, table.Header(i))
					if h.Typeflag == tar.TypeReg {
						checkContent(t, l, table, i, content)
					} else if d, err := table.Digest(i), table.Content(t.Context(), i, io.Discard); d != "" || err == nil {
						t.Errorf("%s: digest %q, content %v", h.Name, d, err)
					}
				}
				if h, err := in.Next(); !errors.Is(err, io.EOF) {
					t.Errorf("the table has %d entries, the tar %s too (%v)", table.Len(), h.Name, err)
				}
			})
		}
	}
}

func checkHeader(t *testing.T, want, got *tar.Header) {
	t.Helper()
	want.Format = 0
	maps.DeleteFunc(want.PAXRecords, func(k, _ string) bool { return !strings.HasPrefix(k, paxXattr) })
	if len(want.PAXRecords) == 0 {
		want.PAXRecords = nil
	}
	want.Xattrs = nil //nolint:staticcheck // the deprecated field that tar's reader sets
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header of %s (-want +got):\n%s", want.Name, diff)
	}
}

func checkContent(t *testing.T, l *layer, table *Table, i int, want []byte) {
	t.Helper()
	name := table.Header(i).Name
	reads := l.reads
	var got bytes.Buffer
	if err := table.Content(t.Context(), i, &got); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("content of %s: %d bytes, %v; want %d", name, got.Len(), err, len(want))
	}
	if l.reads > reads+1 {
		t.Errorf("content of %s: %d reads", name, l.reads-reads)
	}
	if d := table.Digest(i); d != digest.FromBytes(want) {
		t.Errorf("digest of %s: %s", name, d)
	}
}

// A small file of a large layer costs little.
func TestCost(t *testing.T) {
	all := []registrytest.File{{Header: tar.Header{Name: "large"}, Body: random(2 << 20)}}
	for i := range 2000 {
		all = append(all, registrytest.Text(fmt.Sprintf("etc/%d", i), fmt.Sprint("content ", i)))
	}
	all = append(all, registrytest.File{Header: tar.Header{Name: "large too"}, Body: random(2<<20 + 1)})
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			l := build(registrytest.Layer{Files: all, Chunked: format})
			table := l.open(t)
			for i := range table.Len() {
				if h := table.Header(i); h.Name == "etc/1000" {
					checkContent(t, l, table, i, []byte("content 1000"))
				}
			}
			if l.reads > 3 || l.served > 400_000 {
				t.Errorf("%d reads of %d bytes in all", l.reads, l.served)
			}
		})
	}
}

func TestNoTable(t *testing.T) {
	plain := build(registrytest.Layer{Files: files()})
	stargz := build(registrytest.Layer{Files: files(), Chunked: registrytest.EStargz})
	chunked := build(registrytest.Layer{Files: files(), Chunked: registrytest.ZstdChunked})
	position := chunked.Annotations["io.github.containers"+annotationPosition]
	annotate := func(l *layer, annotations map[string]string) *layer {
		out := *l
		out.Annotations = annotations
		return &out
	}
	sha512 := digest.SHA512.FromString("").String()
	for name, l := range map[string]*layer{
		"no annotation":          plain,
		"eStargz without":        annotate(stargz, nil),
		"zstd:chunked without":   annotate(chunked, map[string]string{"io.github.containers" + annotationPosition: position}),
		"compressed anew":        annotate(plain, stargz.Annotations),
		"another type":           annotate(chunked, zstdAnnotationsOf(chunked, strings.TrimSuffix(position, "1")+"2")),
		"too large":              annotate(chunked, zstdAnnotationsOf(chunked, "1:1:268435457:1")),
		"another hash":           annotate(stargz, map[string]string{annotationStargz: sha512}),
		"an empty layer's table": {Descriptor: image.Descriptor{Annotations: stargz.Annotations}},
	} {
		if table, err := Open(t.Context(), l.Descriptor, l.read, nil); table != nil || err != nil {
			t.Errorf("%s: %v, %v; want none", name, table, err)
		}
	}
}

func zstdAnnotationsOf(l *layer, position string) map[string]string {
	out := maps.Clone(l.Annotations)
	out["io.github.containers"+annotationPosition] = position
	return out
}

// skopeo and podman up to 4.3 named the annotations so.
func TestOldAnnotations(t *testing.T) {
	l := build(registrytest.Layer{Files: files(), Chunked: registrytest.ZstdChunked})
	old := map[string]string{}
	for k, v := range l.Annotations {
		old[strings.Replace(k, "io.github.containers", "io.containers", 1)] = v
	}
	l.Annotations = old
	if table := l.open(t); table.Len() != len(files()) {
		t.Errorf("%d entries, want %d", table.Len(), len(files()))
	}
}

// The reads' errors are told as they are.
func TestReadFails(t *testing.T) {
	refused := errors.New("refused")
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			l := build(registrytest.Layer{Files: files(), Chunked: format})
			for after := range int64(3) {
				allowed := after * 40
				read := func(ctx context.Context, off, n int64, w io.Writer) error {
					if n > allowed {
						_ = l.read(ctx, off, allowed, w)
						return refused
					}
					return l.read(ctx, off, n, w)
				}
				if _, err := Open(t.Context(), l.Descriptor, read, nil); !errors.Is(err, refused) || errors.Is(err, image.ErrVerification) {
					t.Errorf("Open: %v, want the read's error", err)
				}
				table := l.open(t)
				table.read = read
				for i := range table.Len() {
					if h := table.Header(i); h.Size < 1000 || h.Name == "zeros" {
						continue
					}
					if err := table.Content(t.Context(), i, io.Discard); !errors.Is(err, refused) || errors.Is(err, image.ErrVerification) {
						t.Errorf("Content of %s: %v, want the read's error", table.Header(i).Name, err)
					}
				}
			}
			short := func(ctx context.Context, off, n int64, w io.Writer) error { return l.read(ctx, off, n-1, w) }
			if _, err := Open(t.Context(), l.Descriptor, short, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("Open with reads that lack a byte: %v", err)
			}
			long := func(ctx context.Context, off, n int64, w io.Writer) error {
				_, err := w.Write(make([]byte, n+1))
				return err
			}
			if _, err := Open(t.Context(), l.Descriptor, long, nil); err == nil {
				t.Error("Open with reads that give a byte too many: no error")
			}
		})
	}
}

// failing takes so many bytes.
type failing struct {
	left int
	err  error
}

func (w *failing) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, w.err
	}
	return len(p), nil
}

// A writer that fails, or a context that ends, ends the reading too.
func TestContentEnds(t *testing.T) {
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			l := build(registrytest.Layer{Files: []registrytest.File{{Header: tar.Header{Name: "large"}, Body: random(4 << 20)}}, Chunked: format})
			table := l.open(t)
			large := 0
			for table.Header(large).Name != "large" {
				large++
			}
			full := errors.New("disk full")
			l.served = 0
			if err := table.Content(t.Context(), large, &failing{left: 200_000, err: full}); !errors.Is(err, full) {
				t.Errorf("%v, want the writer's error", err)
			}
			if l.served > 1<<20 {
				t.Errorf("%d bytes were read", l.served)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			table.read = func(ctx context.Context, off, _ int64, w io.Writer) error {
				_ = l.read(ctx, off, 100_000, w)
				cancel(full)
				<-ctx.Done()
				return context.Cause(ctx)
			}
			if err := table.Content(ctx, large, io.Discard); !errors.Is(err, full) {
				t.Errorf("%v, want the context's cause", err)
			}
		})
	}
}
