package toc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

func zstdOf(p []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(p, nil)
}

func gzipOf(p []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(p)
	_ = w.Close()
	return out.Bytes()
}

// zstdWith is a layer of streams and a table that says anything.
func zstdWith(streams []byte, json string) *layer {
	table := zstdOf([]byte(json))
	blob := append(bytes.Clone(streams), table...)
	return &layer{blob: blob, Descriptor: image.Descriptor{
		Digest: digest.FromBytes(blob),
		Size:   int64(len(blob)),
		Annotations: map[string]string{
			"io.github.containers" + annotationChecksum: digest.FromBytes(table).String(),
			"io.github.containers" + annotationPosition: fmt.Sprintf("%d:%d:%d:1", len(streams), len(table), len(json)),
		},
	}}
}

// stargzWith is one too, whose table is the member given, and whose JSON has the
// digest given.
func stargzWith(streams, member []byte, d digest.Digest) *layer {
	footer := fmt.Sprintf("\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x1a\x00SG\x16\x00%016xSTARGZ\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00", len(streams))
	blob := append(append(bytes.Clone(streams), member...), footer...)
	return &layer{blob: blob, Descriptor: image.Descriptor{
		Digest:      digest.FromBytes(blob),
		Size:        int64(len(blob)),
		Annotations: map[string]string{annotationStargz: d.String()},
	}}
}

func tarOf(name, content string) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644})
	_, _ = w.Write([]byte(content))
	_ = w.Close()
	return out.Bytes()
}

func entriesOf(entries string) string { return `{"version":1,"entries":[` + entries + `]}` }

// A file of one chunk of "hello" at 10, and one of two at 10 and 30.
var (
	hello    = digest.FromString("hello")
	oneChunk = fmt.Sprintf(`{"type":"reg","name":"one","size":5,"offset":10,"digest":%q}`, hello)
	first    = fmt.Sprintf(`{"type":"reg","name":"two","size":10,"offset":10,"chunkSize":5,"chunkDigest":%q}`, hello)
	second   = fmt.Sprintf(`{"type":"chunk","name":"two","offset":30,"chunkOffset":5,"chunkSize":5,"chunkDigest":%q}`, hello)
)

func TestWrongTable(t *testing.T) {
	change := func(s, from, to string) string {
		out := strings.Replace(s, from, to, 1)
		if out == s {
			t.Fatalf("%s has no %s", s, from)
		}
		return out
	}
	good := map[string]string{
		"one":             entriesOf(oneChunk),
		"two":             entriesOf(first + "," + second),
		"the last to end": entriesOf(first + "," + change(second, `"chunkSize":5,`, ``)),
		"nothing":         entriesOf(""),
		"unknown fields":  `{"x":[{}],"version":1,"entries":[],"y":null}`,
		"entries before":  `{"entries":[` + oneChunk + `],"version":1}`,
		"a shared stream": entriesOf(first + "," + change(second, `"offset":30`, `"offset":10,"innerOffset":5`)),
		"zeros":           entriesOf(first + `,{"type":"chunk","chunkOffset":5,"chunkSize":5,"offset":40,"chunkType":"zeros"}`),
	}
	wrong := map[string]string{
		"no JSON":               `hello`,
		"nothing at all":        ``,
		"no object":             `[]`,
		"cut":                   entriesOf(oneChunk)[:40],
		"something behind":      entriesOf(oneChunk) + `{}`,
		"entries twice":         `{"version":1,"entries":[],"entries":[]}`,
		"entries are no list":   `{"version":1,"entries":{}}`,
		"an entry is no object": entriesOf(`7`),
		"no type of value":      entriesOf(change(oneChunk, `"size":5`, `"size":"5"`)),
		"no name":               entriesOf(change(oneChunk, `"name":"one",`, ``)),
		"negative size":         entriesOf(change(oneChunk, `"size":5`, `"size":-5`)),
		"enormous size":         entriesOf(change(oneChunk, `"size":5`, `"size":9223372036854775807`)),
		"no offset":             entriesOf(change(oneChunk, `"offset":10,`, ``)),
		"offset beyond":         entriesOf(change(oneChunk, `"offset":10`, `"offset":100`)),
		"offset negative":       entriesOf(change(oneChunk, `"offset":10`, `"offset":-10`)),
		"inner negative":        entriesOf(change(oneChunk, `"offset":10`, `"offset":10,"innerOffset":-1`)),
		"inner enormous":        entriesOf(change(oneChunk, `"offset":10`, `"offset":10,"innerOffset":9223372036854775807`)),
		"end before":            entriesOf(change(oneChunk, `"offset":10`, `"offset":10,"endOffset":10`)),
		"end beyond":            entriesOf(change(oneChunk, `"offset":10`, `"offset":10,"endOffset":101`)),
		"a digest that is none": entriesOf(change(oneChunk, `sha256:`, `sha256:../`)),
		"digest misspelt":       entriesOf(change(oneChunk, `sha256:2`, `sha256:Z`)),
		"two digests":           entriesOf(change(oneChunk, `"offset":10`, fmt.Sprintf(`"offset":10,"chunkDigest":%q`, digest.FromString("x")))),
		"empty, with a digest":  entriesOf(change(oneChunk, `"size":5`, `"size":0`)),
		"a chunk too many":      entriesOf(oneChunk + "," + change(second, "two", "one")),
		"a chunk too few":       entriesOf(first),
		"a chunk too few, then": entriesOf(first + "," + oneChunk),
		"a chunk of no file":    entriesOf(second),
		"a chunk of a dir":      entriesOf(`{"type":"dir","name":"two"},` + second),
		"a chunk of another":    entriesOf(first + "," + change(second, "two", "three")),
		"a chunk too long":      entriesOf(first + "," + change(second, `"chunkSize":5`, `"chunkSize":6`)),
		"a chunk too short":     entriesOf(first + "," + change(second, `"chunkSize":5`, `"chunkSize":4`)),
		"a negative chunk":      entriesOf(first + "," + change(second, `"chunkSize":5`, `"chunkSize":-5`)),
		"a gap":                 entriesOf(first + "," + change(second, `"chunkOffset":5`, `"chunkOffset":6`)),
		"an overlap":            entriesOf(first + "," + change(second, `"chunkOffset":5`, `"chunkOffset":4`)),
		"the first not first":   entriesOf(change(first, `"offset":10`, `"offset":10,"chunkOffset":1`) + "," + second),
		"backwards":             entriesOf(first + "," + change(second, `"offset":30`, `"offset":9`)),
		"the same stream":       entriesOf(first + "," + change(second, `"offset":30`, `"offset":10`)),
		"overlapping inside":    entriesOf(first + "," + change(second, `"offset":30`, `"offset":10,"innerOffset":4`)),
		"a malformed time":      entriesOf(change(oneChunk, `"size":5`, `"size":5,"modtime":"yesterday"`)),
		"xattrs not base64":     entriesOf(change(oneChunk, `"size":5`, `"size":5,"xattrs":{"a":"!"}`)),
		"an endless value":      entriesOf(change(oneChunk, "one", strings.Repeat("x", 2*maxRecord))),
		"an endless field":      `{"version":1,"x":"` + strings.Repeat("x", 2*maxRecord) + `"}`,
		"a number as a name":    `{1:2}`,
	}
	none := map[string]string{
		"no version":              `{"entries":[]}`,
		"another version":         `{"version":2,"entries":[]}`,
		"an unknown type":         entriesOf(`{"type":"door","name":"d"}`),
		"an unknown type of data": entriesOf(change(oneChunk, `"size":5`, `"size":5,"chunkType":"ones"`)),
		"no digest":               entriesOf(change(oneChunk, `,"digest"`, `,"x"`)),
		"no digest of a chunk":    entriesOf(first + "," + change(second, `,"chunkDigest"`, `,"x"`)),
		"another hash":            entriesOf(change(oneChunk, hello.String(), digest.SHA512.FromString("hello").String())),
	}
	streams := make([]byte, 100)
	check := func(name string, l *layer, what string) {
		t.Helper()
		table, err := Open(t.Context(), l.Descriptor, l.read, nil)
		ok := map[string]bool{
			"good":  table != nil && err == nil,
			"none":  table == nil && err == nil,
			"wrong": table == nil && errors.Is(err, image.ErrVerification),
		}[what]
		if !ok {
			t.Errorf("%s: %v, %v; want %s", name, table != nil, err, what)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	for what, tables := range map[string]map[string]string{"good": good, "wrong": wrong, "none": none} {
		for name, json := range tables {
			check(name, zstdWith(streams, json), what)
			check(name+", gzip", stargzWith(streams, gzipOf(tarOf(stargzName, json)), digest.FromString(json)), what)
		}
	}
	json, d := entriesOf(oneChunk), digest.FromString(entriesOf(oneChunk))
	for name, member := range map[string][]byte{
		"no gzip":         []byte("hello"),
		"no tar":          gzipOf([]byte("hello")),
		"an empty tar":    gzipOf(make([]byte, 1024)),
		"another file":    gzipOf(tarOf("other", json)),
		"a cut tar":       gzipOf(tarOf(stargzName, json)[:600]),
		"a cut gzip":      gzipOf(tarOf(stargzName, json))[:100],
		"another content": gzipOf(tarOf(stargzName, json+" ")),
		"nothing":         nil,
	} {
		check(name, stargzWith(streams, member, d), "wrong")
	}
	l := stargzWith(streams, gzipOf(tarOf(stargzName, json)), "sha256:../x")
	check("a digest that is none", l, "wrong")
	l = zstdWith(streams, json)
	l.Annotations["io.github.containers"+annotationChecksum] = "sha256:x"
	check("a digest that is none, zstd", l, "wrong")
	l = zstdWith(streams, json)
	l.blob[len(l.blob)-1] ^= 1
	check("other bytes", l, "wrong")
	for _, position := range []string{
		"", "x", "1:2:3", "1:2:3:4:5", "-1:1:1:1", "+1:1:1:1", "0:10:10:1", "1:0:10:1", "100:1000:10:1", "9223372036854775807:10:10:1",
		"10:9223372036854775807:10:1", "99999999999999999999:1:1:1", "100:10:10:1\n", fmt.Sprintf("100:%d:%d:1", len(l.blob)-100, len(json)-1),
		fmt.Sprintf("100:%d:%d:1", len(l.blob)-100, len(json)+1),
	} {
		l := zstdWith(streams, json)
		l.Annotations["io.github.containers"+annotationPosition] = position
		what := "wrong"
		if position == "" {
			what = "none"
		}
		check(fmt.Sprintf("position %q", position), l, what)
	}
}

// Of content that is not the table's, no byte of the wrong chunk is written,
// and those before it are right.
func TestWrongContent(t *testing.T) {
	content := random(10_000)
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			l := build(registrytest.Layer{ChunkSize: 1000, Chunked: format, Files: []registrytest.File{{Header: tar.Header{Name: "file"}, Body: content}}})
			table := l.open(t)
			file := 0
			for table.Header(file).Name != "file" {
				file++
			}
			right := bytes.Clone(l.blob)
			for at := range l.blob {
				if at%23 != 0 {
					continue
				}
				l.blob[at] ^= 0x40
				var got bytes.Buffer
				err := table.Content(t.Context(), file, &got)
				l.blob[at] = right[at]
				if err == nil && bytes.Equal(got.Bytes(), content) {
					continue // it stands elsewhere
				}
				if !errors.Is(err, image.ErrVerification) || got.Len()%1000 != 0 || !bytes.HasPrefix(content, got.Bytes()) || got.Len() == len(content) {
					t.Fatalf("byte %d: %d bytes, %v", at, got.Len(), err)
				}
			}
		})
	}
}

// A table whose digests of a file and of its chunks differ does not get to give
// the file whole.
func TestContradictingDigests(t *testing.T) {
	streams := append(make([]byte, 10), zstdOf([]byte("hello"))...)
	end := fmt.Sprintf(`"offset":%d`, len(streams))
	streams = append(streams, zstdOf([]byte("hello"))...)
	for d, ok := range map[digest.Digest]bool{digest.FromString("hellohello"): true, hello: false} {
		l := zstdWith(streams, entriesOf(strings.Replace(first, `"offset":10`, fmt.Sprintf(`"offset":10,"digest":%q`, d), 1)+","+
			strings.Replace(second, `"offset":30`, end, 1)))
		var got bytes.Buffer
		err := l.open(t).Content(t.Context(), 0, &got)
		if ok && (err != nil || got.String() != "hellohello") || !ok && (!errors.Is(err, image.ErrVerification) || got.String() != "hello") {
			t.Errorf("%q, %v", got.String(), err)
		}
	}
}

// What takes more memory or time than is allowed is not begun, nor what decodes
// to more than it should held.
func TestTooLarge(t *testing.T) {
	bomb := zstdOf(make([]byte, 8<<20))
	streams := append(make([]byte, 10), bomb...)
	table := func(format string, args ...any) *layer {
		return zstdWith(streams, entriesOf(fmt.Sprintf(format, args...)))
	}
	for name, test := range map[string]struct {
		*layer
		want error
	}{
		"a large chunk":     {table(`{"type":"reg","name":"a","size":%d,"offset":10,"digest":%q}`, MaxChunk+1, hello), ErrTooLarge},
		"far inside":        {table(`{"type":"reg","name":"a","size":5,"offset":10,"innerOffset":%d,"digest":%q}`, maxVain+1, hello), ErrTooLarge},
		"a bomb":            {table(`{"type":"reg","name":"a","size":5,"offset":10,"digest":%q}`, hello), image.ErrVerification},
		"behind the stream": {table(`{"type":"reg","name":"a","size":5,"offset":10,"innerOffset":%d,"digest":%q}`, 9<<20, hello), image.ErrVerification},
		"longer than it is": {table(`{"type":"reg","name":"a","size":%d,"offset":10,"digest":%q}`, 9<<20, hello), image.ErrVerification},
	} {
		var got bytes.Buffer
		if err := test.open(t).Content(t.Context(), 0, &got); !errors.Is(err, test.want) || got.Len() > 0 {
			t.Errorf("%s: %d bytes, %v; want %v", name, got.Len(), err, test.want)
		}
	}
	// Zeros need no memory, and end with the context.
	l := table(`{"type":"reg","name":"a","size":%d,"offset":10,"chunkType":"zeros"}`, int64(image.MaxImageSize))
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := l.open(t).Content(ctx, 0, writerFunc(func(p []byte) (int, error) {
		if n += len(p); n > 10<<20 {
			cancel()
		}
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) || n > 11<<20 {
		t.Errorf("%d zeros, %v; want the context's end", n, err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func FuzzTable(f *testing.F) {
	for _, format := range formats {
		l := build(registrytest.Layer{Files: []registrytest.File{registrytest.Text("a", "hello")}, Chunked: format, ChunkSize: 3})
		f.Add(l.blob, int64(len(l.blob)-100), format == registrytest.ZstdChunked)
	}
	for _, json := range []string{entriesOf(oneChunk), entriesOf(first + "," + second), entriesOf("")} {
		f.Add([]byte(json), int64(100), true)
		f.Add([]byte(json), int64(100), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, limit int64, zstd bool) {
		_, _, _ = parseFooter(b)
		_, _, _, _ = parsePosition(string(b), limit)
		if json, _, _, err := unpackStargz(b); err == nil {
			_, _ = io.Copy(io.Discard, json)
		}
		table := &Table{zstd: zstd, read: func(_ context.Context, off, n int64, w io.Writer) error {
			_, err := w.Write(b[min(off, int64(len(b))):min(off+n, int64(len(b)))])
			return err
		}}
		if table.parse(context.Background(), bytes.NewReader(b), limit) != nil {
			return
		}
		for i := range table.Len() {
			h := table.Header(i)
			if d := table.Digest(i); d != "" && image.CheckDigest(d) != nil {
				t.Errorf("digest %s", d)
			}
			e := table.entries[i]
			at := int64(0)
			for _, c := range table.chunks[e.chunk : e.chunk+e.chunks] {
				if c.off <= 0 || c.end <= c.off || c.end > limit || c.size <= 0 {
					t.Errorf("chunk %+v of a blob of %d", c, limit)
				}
				at += c.size
			}
			if h.Typeflag != tar.TypeReg || at != h.Size {
				if at != 0 || h.Size != 0 {
					t.Errorf("%d bytes in chunks of %d", at, h.Size)
				}
				continue
			}
			if h.Size < 1<<20 {
				var got bytes.Buffer
				if err := table.Content(t.Context(), i, &got); err == nil && table.Digest(i) != "" && table.Digest(i) != digest.FromBytes(got.Bytes()) {
					t.Errorf("content of another digest")
				}
			}
		}
	})
}
