package compress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/davit-cli/davit/image"
)

// zipped is content as each kind compresses it.
func zipped(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	var z, zs bytes.Buffer
	packer, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{gzip.NewWriter(&z), packer} {
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return map[string][]byte{"gzip": z.Bytes(), "zstd": zs.Bytes()}
}

func fileOf(t *testing.T, b []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestUnpack(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	for kind, b := range zipped(t, content) {
		for _, tt := range []struct {
			name  string
			b     []byte
			limit int64
			cause error
			least int // bytes of the content that are there
			fails bool
		}{
			{"whole", b, 0, nil, len(content), false},
			{"just within the limit", b, int64(len(content)), nil, len(content), false},
			{"more than the limit", b, int64(len(content) - 1), nil, len(content) - 1, true},
			{"cut off", b[:len(b)-1], 0, io.ErrUnexpectedEOF, 0, true},
			{"header alone", b[:6], 0, io.ErrUnexpectedEOF, 0, true},
		} {
			dir := t.TempDir()
			var events []image.Event
			f, size, err := Unpack(t.Context(), bytes.NewReader(tt.b), int64(len(tt.b)), UnpackOptions{Dir: dir, Limit: tt.limit, Events: func(e image.Event) { events = append(events, e) }})
			if tt.fails != errors.Is(err, image.ErrVerification) || tt.fails != (err != nil) || tt.cause != nil && !errors.Is(err, tt.cause) {
				t.Errorf("%s, %s: %v", kind, tt.name, err)
			}
			if f == nil {
				t.Errorf("%s, %s: there is no file", kind, tt.name)
				continue
			}
			got, err := io.ReadAll(io.NewSectionReader(f, 0, size))
			if err != nil || int64(len(got)) != size || len(got) < tt.least || !bytes.HasPrefix(content, got) {
				t.Errorf("%s, %s: read %d bytes of %d, %v", kind, tt.name, len(got), size, err)
			}
			if len(events) < 2 || slices.ContainsFunc(events, func(e image.Event) bool { return e.Text != "decompress the archive" }) {
				t.Errorf("%s, %s: events %v", kind, tt.name, events)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			checkEmpty(t, dir)
		}
	}
}

// What is no fault of the archive's is none of its content, and leaves no file.
func TestUnpackWithoutFile(t *testing.T) {
	stopped := errors.New("stopped")
	for kind, b := range zipped(t, []byte("content")) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stopped)
		closed := fileOf(t, b)
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
		for name, try := range map[string]struct {
			ctx  context.Context
			in   *os.File
			dir  string
			want error
		}{
			"a context that has ended":      {ctx, fileOf(t, b), dir, stopped},
			"a file that cannot be read":    {t.Context(), closed, dir, os.ErrClosed},
			"a directory that is not there": {t.Context(), fileOf(t, b), dir + "/none", os.ErrNotExist},
		} {
			if f, _, err := Unpack(try.ctx, try.in, int64(len(b)), UnpackOptions{Dir: try.dir}); f != nil || !errors.Is(err, try.want) || errors.Is(err, image.ErrVerification) {
				t.Errorf("%s, %s: %v, %v", kind, name, f, err)
			}
		}
		checkEmpty(t, dir)
	}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
