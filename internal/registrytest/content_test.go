package registrytest_test

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

func TestCorruptBlob(t *testing.T) {
	data := []byte("0123456789")
	s := registrytest.Start(t, registrytest.Options{})
	d := s.AddBlob(data)
	c := client(t, s)
	for _, tt := range []struct {
		name    string
		corrupt registrytest.Corrupt
		body    string
		length  int64
		ends    bool // the body ends before its Content-Length
	}{
		{"same size", registrytest.Corrupt{Data: []byte("abcdefghij")}, "abcdefghij", 10, false},
		{"shorter", registrytest.Corrupt{Data: []byte("0123")}, "0123", 4, false},
		{"shorter, lying", registrytest.Corrupt{Data: []byte("0123"), ContentLength: 10}, "0123", 10, true},
		{"longer", registrytest.Corrupt{Data: []byte("0123456789ab")}, "0123456789ab", 12, false},
		{"longer, lying", registrytest.Corrupt{Data: []byte("ab0123456789"), ContentLength: 10}, "ab01234567", 10, false},
		{"flipped", registrytest.Corrupt{Flip: []int64{1, 9}}, "0\xce2345678\xc6", 10, false},
	} {
		tt.corrupt.Times = 2
		s.Configure(func(o *registrytest.Options) {
			o.Corrupt = map[digest.Digest]*registrytest.Corrupt{d.Digest: &tt.corrupt}
		})
		target := s.URL() + "/v2/x/blobs/" + d.Digest.String()
		if a := do(t, c, "HEAD", target); a.ContentLength != 10 {
			t.Errorf("%s: HEAD: %v", tt.name, a.Header)
		}
		a := get(t, c, target)
		if string(a.body) != tt.body || a.ContentLength != tt.length || errors.Is(a.err, io.ErrUnexpectedEOF) != tt.ends {
			t.Errorf("%s: %q, length %d, %v", tt.name, a.body, a.ContentLength, a.err)
		}
		a = get(t, c, target, "Range", "bytes=1-2")
		if a.StatusCode != 206 || string(a.body) != tt.body[1:3] || a.Header.Get("Content-Range") != "bytes 1-2/"+strconv.FormatInt(tt.length, 10) {
			t.Errorf("%s: range %d %q %v", tt.name, a.StatusCode, a.body, a.Header)
		}
		if a := get(t, c, target); string(a.body) != string(data) {
			t.Errorf("%s: after the last time: %q", tt.name, a.body)
		}
	}
}

func TestManifestFaults(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{
		NoDigestHeader: true, NoContentLength: true, ManifestType: "text/plain",
	})
	p := s.Push("a/b", "v1", registrytest.Image{})
	c := client(t, s)
	a := get(t, c, s.URL()+"/v2/a/b/manifests/v1")
	if a.ContentLength != -1 || a.Header.Get("Docker-Content-Digest") != "" || a.Header.Get("Content-Type") != "text/plain" || !bytes.Equal(a.body, p.ManifestBytes) {
		t.Errorf("%d %v %q", a.ContentLength, a.Header, a.body)
	}
	blob := get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Config.Digest.String())
	if blob.Header.Get("Docker-Content-Digest") != "" || blob.ContentLength != p.Config.Size {
		t.Errorf("blob: %v", blob.Header)
	}
	s.Configure(func(o *registrytest.Options) {
		*o = registrytest.Options{
			ManifestType: "none",
			ChunkedBlobs: true,
			AcceptRanges: true,
			Corrupt:      map[digest.Digest]*registrytest.Corrupt{p.Manifest.Digest: {Data: []byte("{}")}},
		}
	})
	a = get(t, c, s.URL()+"/v2/a/b/manifests/v1")
	if _, has := a.Header["Content-Type"]; has || string(a.body) != "{}" || a.ContentLength != 2 || a.Header.Get("Docker-Content-Digest") != p.Manifest.Digest.String() {
		t.Errorf("%d %v %q", a.ContentLength, a.Header, a.body)
	}
	blob = get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Config.Digest.String())
	if blob.ContentLength != -1 || blob.Header.Get("Accept-Ranges") != "bytes" || !bytes.Equal(blob.body, p.ConfigBytes) {
		t.Errorf("blob: %d %v", blob.ContentLength, blob.Header)
	}
}
