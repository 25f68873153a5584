package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/davit-cli/davit/image"
)

// sizable are layers of a few megabytes that compress somewhat.
func sizable(t testing.TB) []Layer {
	t.Helper()
	src := rand.New(rand.NewPCG(1, 2))
	var layers [][]entry
	for i := range 4 {
		var l []entry
		for j, size := range []int{1000, 300_000, 1_200_000, 70_000, 5} {
			b := make([]byte, size)
			for k := range b {
				b[k] = byte('a' + src.IntN(8))
			}
			l = append(l, file(fmt.Sprintf("%d/%d", i, j), string(b)))
		}
		layers = append(layers, append(l, file("common", strings.Repeat(fmt.Sprint(i), 100_000))))
	}
	return layersOf(t, layers...)
}

func TestCompression(t *testing.T) {
	tree := merged(t, sizable(t), Options{})
	want := tarred(t, tree, TarOptions{})
	for _, tt := range []struct {
		name  string
		opts  TarOptions
		plain func(io.Reader) (io.Reader, error)
	}{
		{"gzip", TarOptions{Compression: Gzip}, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"gzip 6", TarOptions{Compression: Gzip, Level: 6}, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"zstd", TarOptions{Compression: Zstd}, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
		{"zstd 7", TarOptions{Compression: Zstd, Level: 7}, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var first []byte
			for jobs := range 4 {
				tt.opts.Jobs = jobs + 1
				b := tarred(t, tree, tt.opts)
				if first == nil {
					first = b
				}
				if !bytes.Equal(first, b) {
					t.Errorf("with %d jobs the bytes are others", jobs+1)
				}
			}
			r, err := tt.plain(bytes.NewReader(first))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("it is not the plain tar, compressed")
			}
			full := errors.New("disk full")
			for _, room := range []int{0, len(first) / 2, len(first) - 1} {
				if err := tree.WriteTar(context.Background(), &limitedWriter{room, full}, tt.opts); !errors.Is(err, full) {
					t.Errorf("with room for %d bytes: %v", room, err)
				}
			}
		})
	}
	for _, opts := range []TarOptions{{Compression: Gzip, Level: 9}, {Compression: Zstd, Level: 19}} {
		if _, err := compressor(io.Discard, opts); err != nil {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	for _, opts := range []TarOptions{{Compression: Gzip, Level: 10}, {Compression: Zstd, Level: -1}, {Compression: 7}} {
		if err := tree.WriteTar(context.Background(), io.Discard, opts); err == nil {
			t.Errorf("%+v is taken", opts)
		}
	}
}

type limitedWriter struct {
	room int
	err  error
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > w.room {
		return 0, w.err
	}
	w.room -= len(p)
	return len(p), nil
}

// Files of all sizes get into a file as into a stream, also as the spool shrinks.
func TestFileSink(t *testing.T) {
	layers := sizable(t)
	tree := merged(t, layers, Options{})
	want := tarred(t, tree, TarOptions{})
	for _, once := range []bool{false, true} {
		tree := merged(t, layers, Options{Once: once})
		name := filepath.Join(t.TempDir(), "a.tar")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := tree.WriteTar(context.Background(), f, TarOptions{}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("once %v: the file differs from the stream: %v", once, err)
		}
		err = tree.WriteTar(context.Background(), io.Discard, TarOptions{})
		if once && !errors.Is(err, ErrWritten) || !once && err != nil {
			t.Errorf("once %v, written again: %v", once, err)
		}
		// One opened to append cannot be written at offsets, and is a stream.
		if !once {
			a, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if err := tree.WriteTar(context.Background(), a, TarOptions{}); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, slices.Concat(want, want)) {
				t.Errorf("appended: %v", err)
			}
		}
	}
	if tree.Stats().Spooled == 0 || tree.Stats().Paths != 1+4*6+1 {
		t.Errorf("%+v", tree.Stats())
	}
}

func TestSpoolIsAnnounced(t *testing.T) {
	var notes []image.Event
	merged(t, layersOf(t, []entry{file("a", "x")}), Options{Events: func(e image.Event) {
		if e.Kind != image.EventStage {
			notes = append(notes, e)
		}
	}})
	if len(notes) != 1 || notes[0].Kind != image.EventNote || notes[0].Bytes != 1 {
		t.Errorf("%+v", notes)
	}
}

// What an upper layer hides is not spooled, once that layer is decoded.
func TestHiddenIsSkipped(t *testing.T) {
	layers := layersOf(t,
		[]entry{file("a", big), file("d/b", big), file("e/c", big), file("kept", big)},
		[]entry{file("a", "new"), file(".wh.d", ""), file("e/.wh..wh..opq", "")},
	)
	tree := merged(t, layers, Options{Jobs: 1})
	if s := tree.Stats(); s.Skipped != 600_000 || s.Spooled != 200_003 || s.Again != 0 {
		t.Errorf("%+v", s)
	}
	// What was taken for hidden and has another name is decoded again.
	layers = layersOf(t,
		[]entry{file("a", big), hardlink("b", "a"), file("c", big)},
		[]entry{file("a", "new"), file("c", "new")},
	)
	tree = merged(t, layers, Options{Jobs: 1})
	if s := tree.Stats(); s.Skipped != 200_000 || s.Spooled != 200_006 || s.Again != 1 {
		t.Errorf("%+v", s)
	}
}

func TestVerbatim(t *testing.T) {
	one := tarOf(t, dir("d"), file("d/a", "x"))
	tests := []struct {
		name   string
		layers []Layer
		want   bool
		err    error
	}{
		{"one gzip", []Layer{asLayer(gzipOf(t, one))}, true, nil},
		{"gzip of two members", []Layer{asLayer(append(gzipOf(t, one[:512]), gzipOf(t, one[512:])...))}, true, nil},
		{"zstd", []Layer{asLayer(zstdOf(t, one))}, false, nil},
		{"plain", []Layer{asLayer(one)}, false, nil},
		{"xz", []Layer{asLayer([]byte("\xfd7zXZ\x00"))}, false, nil},
		{"none", nil, false, nil},
		{"two", []Layer{asLayer(gzipOf(t, one)), asLayer(gzipOf(t, one))}, false, nil},
		{"a whiteout", []Layer{asLayer(gzipOf(t, tarOf(t, file("a", "x"), file("d/.wh.b", ""))))}, false, nil},
		{"opaque", []Layer{asLayer(gzipOf(t, tarOf(t, file("d/.wh..wh..opq", ""))))}, false, nil},
		{"AUFS's", []Layer{asLayer(gzipOf(t, tarOf(t, file(".wh..wh.aufs", ""))))}, false, nil},
		{"cut", []Layer{asLayer(gzipOf(t, one)[:100])}, false, image.ErrVerification},
		{"an impossible name", []Layer{asLayer(gzipOf(t, tarOf(t, file(".wh.", ""))))}, false, image.ErrVerification},
	}
	for _, tt := range tests {
		got, err := Verbatim(context.Background(), tt.layers, Options{})
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func TestUnpackRefusesWhatIsNotEmpty(t *testing.T) {
	tree := merged(t, layersOf(t, []entry{file("a", "x"), dir("d"), file("d/b", "y"), symlink("s", "a"), hardlink("h", "a")}), Options{})
	dir := t.TempDir()
	for name, body := range map[string]string{"mine": "1", "d/mine": "2", "a/was/a/directory": "3", "h": "4"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Unpack(context.Background(), dir, UnpackOptions{}); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("%v, want ErrNotEmpty", err)
	}
	if err := tree.Unpack(context.Background(), dir, UnpackOptions{Existing: true}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"mine": "1", "d/mine": "2", "a": "x", "d/b": "y", "h": "x", "s": "x"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := tree.Unpack(context.Background(), filepath.Join(dir, "new", "deeper"), UnpackOptions{}); err != nil {
		t.Errorf("into a directory that is not there: %v", err)
	}
	if err := tree.Unpack(context.Background(), filepath.Join(dir, "mine"), UnpackOptions{}); err == nil {
		t.Error("it unpacks into a file")
	}
}

// Without root everything is the caller's, and one warning says so.
func TestUnpackWithoutRoot(t *testing.T) {
	tree := merged(t, layersOf(t, []entry{
		file("su", "x").with(mode(0o4755)).with(owner(12, 34)),
		dir("closed").with(mode(0o500)).with(owner(12, 34)), file("closed/in", "y").with(mode(0o400)),
		special(tar.TypeChar, "null", 1, 3), hardlink("zap", "null"), special(tar.TypeBlock, "sda", 8, 0),
		symlink("s", "su").with(owner(12, 34)),
	}), Options{})
	dir := emptyDir(t)
	var texts []string
	err := tree.Unpack(context.Background(), dir, UnpackOptions{NoOwner: true, NoSync: true, Events: func(e image.Event) {
		if e.Kind == image.EventStage {
			return
		}
		texts = append(texts, fmt.Sprint(e.Kind == image.EventWarning, " ", e.Text))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) != 2 || !strings.HasPrefix(texts[0], "true without root") || texts[1] != "false skipped 2 devices, which take root to make" {
		t.Errorf("%q", texts)
	}
	var got []string
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Name(), " ", info.Mode()))
	}
	want := []string{"closed dr-x------", "s Lrwxrwxrwx", "su -rwxr-xr-x"}
	if runtime.GOOS != "windows" {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestConflicts(t *testing.T) {
	tree := merged(t, layersOf(t, []entry{
		file("A/x", ""), file("a/X", ""), file("straße", ""), file("STRASSE", ""), file("K", ""), file("k", ""), file("\u212a", ""),
		file("d/NUL", ""), file("d/nul.tar.gz", ""), file("d/com1", ""), file("d/com10", ""), file("d/Lpt²", ""), file("d/con ", ""),
		file("d/a:b", ""), file("d/C:..\\x", ""), file("d/dot.", ""), file("d/\x01", ""), file("d/null", ""), file("d/.dot", ""), file("d/con.d/x", ""),
	}), Options{})
	lines := func(limits nameLimits) (lines []string) {
		for _, c := range tree.conflicts(limits) {
			lines = append(lines, fmt.Sprintf("%q %s", c.Paths, c.Reason))
		}
		return lines
	}
	if got := lines(nameLimits{}); got != nil {
		t.Errorf("where all names can be: %q", got)
	}
	if diff := cmp.Diff([]string{
		`["A" "a"] they differ by case alone`,
		"[\"K\" \"k\" \"\u212a\"] they differ by case alone",
	}, lines(nameLimits{fold: true})); diff != "" {
		t.Errorf("folding (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		`["d/\x01"] Windows allows no '\x01' in names`,
		`["d/C:..\\x"] Windows allows no ':' in names`,
		`["d/Lpt²"] Windows keeps the name for itself`,
		`["d/NUL"] Windows keeps the name for itself`,
		`["d/a:b"] Windows allows no ':' in names`,
		`["d/com1"] Windows keeps the name for itself`,
		`["d/con "] Windows allows no name that ends in a dot or space`,
		`["d/con.d"] Windows keeps the name for itself`,
		`["d/dot."] Windows allows no name that ends in a dot or space`,
		`["d/nul.tar.gz"] Windows keeps the name for itself`,
	}, lines(nameLimits{windows: true})); diff != "" {
		t.Errorf("Windows (-want +got):\n%s", diff)
	}
	err := &ConflictError{tree.conflicts(nameLimits{fold: true, windows: true})}
	if !strings.HasPrefix(err.Error(), `the file system there cannot hold 12 of the image's names: "d/\x01" (Windows`) {
		t.Error(err)
	}
}

// endingWriter ends a context after so many writes.
type endingWriter struct {
	bytes.Buffer
	left int
	end  context.CancelFunc
}

func (w *endingWriter) Write(p []byte) (int, error) {
	if w.left--; w.left == 0 {
		w.end()
	}
	return w.Buffer.Write(p)
}

// A stream that ends early is whole for no reader, wherever that is.
func TestStreamThatEndsEarly(t *testing.T) {
	var entries []entry // of 1024 bytes and 512, so that they end where buffers do
	for i := range 9_000 {
		entries = append(entries, file(fmt.Sprintf("%d/file", i), "x"))
	}
	entries = append(entries, file("large", strings.Repeat("0123456789", 300_000)))
	tree := merged(t, layersOf(t, entries), Options{})
	for _, tt := range []struct {
		opts  TarOptions
		plain func(io.Reader) (io.Reader, error)
	}{
		{TarOptions{}, func(r io.Reader) (io.Reader, error) { return r, nil }},
		{TarOptions{Compression: Gzip}, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{TarOptions{Compression: Zstd}, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
	} {
		for writes := 1; ; writes += 1 + writes/2 {
			ctx, end := context.WithCancel(context.Background())
			w := &endingWriter{left: writes, end: end}
			err := tree.WriteTar(ctx, w, tt.opts)
			end()
			if err == nil {
				if writes < 4 {
					t.Errorf("%+v: it was whole after %d writes", tt.opts, writes)
				}
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%+v: %v", tt.opts, err)
			}
			if w.Len() == 0 {
				continue
			}
			r, err := tt.plain(&w.Buffer)
			if err != nil {
				continue
			}
			// Some readers take what is missing of a block for zeros.
			b, err := io.ReadAll(r)
			if err != nil {
				continue
			}
			b = append(b, make([]byte, -len(b)&511)...)
			names := 0
			for in := tar.NewReader(bytes.NewReader(b)); err == nil; names++ {
				_, err = in.Next()
			}
			if err == io.EOF {
				t.Errorf("%+v: ended after %d writes, it reads as a whole tar of %d entries", tt.opts, writes, names-1)
			}
		}
	}
}
