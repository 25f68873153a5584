package verify_test

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/verify"
)

// What is no archive of images is told in one problem, and no loader takes it.
func TestNoArchive(t *testing.T) {
	path, _ := pulled(t, twoLayers(), davit.PullOptions{})
	ours := read(t, path)
	text := bytes.Repeat([]byte("no tar"), 1000)
	rootFS := tarOf(t, []member{link("bin", "usr/bin"), file("etc/motd", "a"), file("etc/motd", "b"), file("../x", "c"),
		file(digest.FromString("x").Encoded()+".json", "y")})
	for _, tt := range []struct {
		name string
		b    []byte
		what verify.Kind
		text string
	}{
		{"a text", text, verify.Structure, "it is no tar: archive/tar"},
		{"a short text", text[:171], verify.Structure, "it is no tar: it ends at byte 171"},
		{"nothing", nil, verify.Structure, "it is no tar: nothing"},
		{"a text in gzip", zipped(t, text), verify.Structure, "what it decompresses to is no tar: archive/tar"},
		{"a short text in gzip", zipped(t, text[:171]), verify.Structure, "what it decompresses to is no tar: it ends"},
		{"nothing in gzip", zipped(t, nil), verify.Structure, "what it decompresses to is no tar: nothing"},
		{"gzip that is cut off at once", zipped(t, ours)[:20], verify.Truncated, "the compressed archive is cut off at byte 20"},
		{"gzip alone", []byte("\x1f\x8b"), verify.Truncated, "the compressed archive is cut off at byte 2"},
		{"xz", []byte("\xfd7zXZ\x00..."), verify.Structure, "it is compressed with xz"},
		{"a root file system", rootFS, verify.Structure, "a tar of something else"},
		{"a root file system in gzip", zipped(t, rootFS), verify.Structure, "a tar of something else"},
		{"a root file system without an end", rootFS[:len(rootFS)-1024], verify.Truncated, "no archive of images"},
		{"a tar of nothing", make([]byte, 10240), verify.Structure, "a tar of something else"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir() + "/file"
			write(t, path, tt.b)
			r := check(t, path)
			wantProblems(t, r, want{tt.what, "file", tt.text})
			wantTakes(t, r, false, false, false)
			if len(r.Notes) > 0 || r.Blobs > 0 || len(r.Images) > 0 {
				t.Errorf("report: %+v", r)
			}
		})
	}
}

// An index that is a link to nowhere is as none.
func TestNoIndex(t *testing.T) {
	path := t.TempDir() + "/file"
	write(t, path, tarOf(t, []member{link("index.json", "none")}))
	wantProblems(t, check(t, path), want{verify.Structure, "index.json", "no archive of images"})
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
