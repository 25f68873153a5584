package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// headers are those of a tar, with the digests of its content.
func headers(t testing.TB, b []byte) func(yield func(*tar.Header, digest.Digest) bool) {
	return func(yield func(*tar.Header, digest.Digest) bool) {
		tr := tar.NewReader(bytes.NewReader(b))
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d := digest.Digest("")
			if h.Typeflag == tar.TypeReg {
				if d, err = digest.FromReader(tr); err != nil {
					t.Fatal(err)
				}
			}
			if !yield(h, d) {
				return
			}
		}
	}
}

// A listing of headers is that of the stream which has them.
func TestListHeaders(t *testing.T) {
	for _, tt := range rules {
		var ofStreams, ofHeaders []*Listing
		for _, entries := range tt.layers {
			b := tarOf(t, entries...)
			l, err := List(context.Background(), bytes.NewReader(gzipOf(t, b)), ListOptions{Digests: true})
			if err != nil {
				t.Fatal(err)
			}
			ofStreams = append(ofStreams, l)
			if l, err = ListHeaders(context.Background(), headers(t, b), ListOptions{}); err != nil {
				t.Fatal(err)
			}
			ofHeaders = append(ofHeaders, l)
		}
		var got [2][]string
		for i, listings := range [][]*Listing{ofStreams, ofHeaders} {
			v, err := Overlay(context.Background(), listings, OverlayOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for e := range v.Entries() {
				e.node = 0
				got[i] = append(got[i], fmt.Sprintf("%+v", e))
			}
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("%s: (-stream +headers):\n%s", tt.name, diff)
		}
	}
}

func TestBadHeaders(t *testing.T) {
	twice := func(h tar.Header, d digest.Digest) func(yield func(*tar.Header, digest.Digest) bool) {
		return func(yield func(*tar.Header, digest.Digest) bool) {
			for range 2 {
				if !yield(&h, d) {
					return
				}
			}
		}
	}
	tests := []struct {
		name  string
		h     tar.Header
		d     digest.Digest
		limit Limits
		ok    bool
	}{
		{name: "a file", h: tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 5}, d: digest.FromString("x"), ok: true},
		{name: "of no type", h: tar.Header{Name: "a", Size: 5}, ok: true},
		{name: "of another algorithm", h: tar.Header{Typeflag: tar.TypeReg, Name: "a"}, d: digest.SHA512.FromString("x"), ok: true},
		{name: "a negative size", h: tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: -1}},
		{name: "a size over the limit", h: tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1<<63 - 1}},
		{name: "sizes over the limit", h: tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 6}, limit: Limits{Bytes: 11}},
		{name: "entries over the limit", h: tar.Header{Typeflag: tar.TypeReg, Name: "a"}, limit: Limits{Entries: 1}},
		{name: "a digest that is none", h: tar.Header{Typeflag: tar.TypeReg, Name: "a"}, d: "sha256:../../x"},
		{name: "a link without a target", h: tar.Header{Typeflag: tar.TypeSymlink, Name: "a"}},
		{name: "a device of no number", h: tar.Header{Typeflag: tar.TypeChar, Name: "a", Devmajor: -1}},
		{name: "an unknown type", h: tar.Header{Typeflag: 'Z', Name: "a"}},
		{name: "a whiteout of nothing", h: tar.Header{Typeflag: tar.TypeReg, Name: "d/.wh."}},
		{name: "a long path", h: tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("a/", 2100)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ListHeaders(context.Background(), twice(tt.h, tt.d), ListOptions{Limits: tt.limit})
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, image.ErrVerification) {
				t.Errorf("%v", err)
			}
			if tt.limit != (Limits{}) && !errors.Is(err, ErrLimit) {
				t.Errorf("%v, want an ErrLimit", err)
			}
		})
	}
}

// What Merge refuses of the attacks, the listings or their overlay refuse; and
// what it makes of the others and of their twins, the overlay makes.
func TestListAttacks(t *testing.T) {
	for _, tt := range attacks {
		for _, layers := range [][][]entry{tt.bad, tt.twin} {
			built := layersOf(t, layers...)
			tree, err := Merge(context.Background(), built, Options{SpoolDir: t.TempDir()})
			if err == nil {
				compareView(t, tt.name, built, overlaid(t, built))
				if err := tree.Close(); err != nil {
					t.Error(err)
				}
				continue
			}
			var listings []*Listing
			for _, l := range built {
				listing, listErr := List(context.Background(), io.NewSectionReader(l.Blob, 0, l.Descriptor.Size), ListOptions{})
				err = listErr
				if err != nil {
					break
				}
				listings = append(listings, listing)
			}
			if err == nil {
				_, err = Overlay(context.Background(), listings, OverlayOptions{})
			}
			if !errors.Is(err, image.ErrVerification) {
				t.Errorf("%s: %v, want an ErrVerification", tt.name, err)
			}
		}
	}
}

func TestListErrors(t *testing.T) {
	whole := tarOf(t, file("a", strings.Repeat("x", 100_000)), file("b", "y"))
	gz := gzipOf(t, whole)
	broken := errors.New("the line is cut")
	tests := []struct {
		name string
		blob io.Reader
		opts ListOptions
		want []error
	}{
		{"a cut tar", bytes.NewReader(whole[:50_000]), ListOptions{}, []error{image.ErrVerification}},
		{"a cut gzip", bytes.NewReader(gz[:len(gz)-1]), ListOptions{}, []error{image.ErrVerification}},
		{"too many bytes", bytes.NewReader(gz), ListOptions{Limits: Limits{Bytes: 50_000}}, []error{ErrLimit, image.ErrVerification}},
		{"too many entries", bytes.NewReader(gz), ListOptions{Limits: Limits{Entries: 1}}, []error{ErrLimit, image.ErrVerification}},
		{"a sparse file too large", bytes.NewReader(sparse("1099511627777")), ListOptions{}, []error{ErrLimit}},
		{"a blob that fails", io.MultiReader(bytes.NewReader(gz[:50]), iotest.ErrReader(broken)), ListOptions{}, []error{broken}},
		{"a plain blob that fails", io.MultiReader(bytes.NewReader(whole[:5000]), iotest.ErrReader(io.ErrUnexpectedEOF)), ListOptions{}, []error{io.ErrUnexpectedEOF}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := List(context.Background(), tt.blob, tt.opts)
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			}
			if !slices.Contains(tt.want, image.ErrVerification) && !errors.Is(err, ErrLimit) && errors.Is(err, image.ErrVerification) {
				t.Errorf("%v blames the content", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := List(ctx, bytes.NewReader(gz), ListOptions{}); !errors.Is(err, context.Canceled) || errors.Is(err, image.ErrVerification) {
		t.Errorf("cancelled: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Overlay's limits are those of all layers together.
func TestOverlayLimits(t *testing.T) {
	listings := []*Listing{listed(t, []entry{file("a", "1")}), listed(t, []entry{file("b", "2")})}
	for _, limits := range []Limits{{Entries: 1}, {Bytes: 3 << 10}} {
		if _, err := Overlay(context.Background(), listings[:1], OverlayOptions{Limits: limits}); err != nil {
			t.Errorf("%+v: %v", limits, err)
		}
		if _, err := Overlay(context.Background(), listings, OverlayOptions{Limits: limits}); !errors.Is(err, ErrLimit) || !errors.Is(err, image.ErrVerification) {
			t.Errorf("%+v: %v", limits, err)
		}
	}
}

// Entries that are none of the file system count in ordinals, by which CopyEntry
// finds content.
func TestOrdinals(t *testing.T) {
	global := entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}
	layer := []entry{global, file("a", "1"), dir(".wh..wh.plnk"), global, file("b", "22"), hardlink("c", "b"), file("d", "333"), file(".wh.x", "")}
	b := zstdOf(t, tarOf(t, layer...))
	l, err := List(context.Background(), bytes.NewReader(b), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := Overlay(context.Background(), []*Listing{l}, OverlayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e := range v.Entries() {
		var out strings.Builder
		if err := CopyEntry(context.Background(), bytes.NewReader(b), e.Ordinal, &out, CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Path, " ", e.Ordinal, " ", out.String()))
	}
	if diff := cmp.Diff([]string{"a 1 1", "b 4 22", "c 4 22", "d 6 333"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for ordinal, opts := range map[int]CopyOptions{2: {}, 99: {}, 1: {Digest: digest.FromString("2")}, 4: {Limits: Limits{Bytes: 700}}, 6: {Limits: Limits{Entries: 3}}} {
		if err := CopyEntry(context.Background(), bytes.NewReader(b), ordinal, io.Discard, opts); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%d, %+v: %v", ordinal, opts, err)
		}
	}
	broken := errors.New("no room")
	if err := CopyEntry(context.Background(), bytes.NewReader(b), 1, failingWriter{broken}, CopyOptions{}); !errors.Is(err, broken) || errors.Is(err, image.ErrVerification) {
		t.Errorf("a writer that fails: %v", err)
	}
}

func TestCopySparse(t *testing.T) {
	var out bytes.Buffer
	if err := CopyEntry(context.Background(), bytes.NewReader(sparse("2000")), 0, &out, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("\x00", 512) + strings.Repeat("x", 512) + strings.Repeat("\x00", 2000-1024); out.String() != want {
		t.Errorf("%q", out.String())
	}
	if err := CopyEntry(context.Background(), bytes.NewReader(sparse("1099511627777")), 0, io.Discard, CopyOptions{}); !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
}
