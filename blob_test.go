package davit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

func TestBlob(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	app := server.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 300_000)}})
	layer, content := app.Layers[0], app.LayerBytes(0)
	empty := server.AddBlob(nil)
	name := func(d image.Descriptor) string { return server.Host() + "/app@" + d.Digest.String() }
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	if _, err := davit.Pull(t.Context(), server.Host()+"/app:v1", davit.PullOptions{Format: davit.OCI, Output: layout}); err != nil {
		t.Fatal(err)
	}
	n := int64(len(content))
	for i, test := range []struct {
		name string
		part *davit.ByteRange
		want []byte
		told string
	}{
		{name(layer), nil, content, ""},
		{name(empty), nil, nil, ""},
		{name(layer), &davit.ByteRange{From: 0, To: 0}, content[:1], "0-0"},
		{name(layer), &davit.ByteRange{From: 100, To: 70_000}, content[100:70_001], "100-70000"},
		{name(layer), &davit.ByteRange{From: 100, To: -1}, content[100:], fmt.Sprintf("100-%d", n-1)},
		{name(layer), &davit.ByteRange{From: n - 1, To: n + 5}, content[n-1:], fmt.Sprintf("%d-%[1]d", n-1)},
		{layout + "@" + layer.Digest.String(), nil, content, ""},
		{layout + "@" + layer.Digest.String(), &davit.ByteRange{From: 5, To: 9}, content[5:10], "5-9"},
	} {
		var out bytes.Buffer
		r, err := davit.Blob(t.Context(), test.name, davit.BlobOptions{Stream: &out, Range: test.part})
		if err != nil || !bytes.Equal(out.Bytes(), test.want) || r.Range != test.told || r.Size != int64(len(test.want)) {
			t.Errorf("%s %v: %d bytes, %+v, %v", test.name, test.part, out.Len(), r, err)
		}
		path := filepath.Join(dir, "new", fmt.Sprint(i))
		r, err = davit.Blob(t.Context(), test.name, davit.BlobOptions{Output: path, Range: test.part})
		got, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || !bytes.Equal(got, test.want) || r.Path != path {
			t.Errorf("%s %v: a file of %d bytes, %+v, %v, %v", test.name, test.part, len(got), r, err, readErr)
		}
	}
	for _, part := range []davit.ByteRange{{From: n, To: -1}, {From: 5, To: 4}, {From: -5, To: -1}} {
		if _, err := davit.Blob(t.Context(), name(layer), davit.BlobOptions{Stream: new(bytes.Buffer), Range: &part}); err == nil {
			t.Errorf("there is no range %v, but no error", part)
		}
	}
	if _, err := davit.Blob(t.Context(), name(layer), davit.BlobOptions{}); err == nil {
		t.Error("there is no output, but no error")
	}
	for _, wrong := range []string{server.Host() + "/app:v1", layout, layout + ":v1"} {
		if _, err := davit.Blob(t.Context(), wrong, davit.BlobOptions{Stream: new(bytes.Buffer)}); err == nil {
			t.Errorf("%s is no blob, but no error", wrong)
		}
	}
}

// A source without ranges is read from the beginning, and no further than needed.
func TestBlobRangeWithoutRanges(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{Ranges: registrytest.RangesIgnored})
	app := server.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 300_000)}})
	var out bytes.Buffer
	_, err := davit.Blob(t.Context(), server.Host()+"/app@"+app.Layers[0].Digest.String(),
		davit.BlobOptions{Stream: &out, Range: &davit.ByteRange{From: 1000, To: 1999}})
	if err != nil || !bytes.Equal(out.Bytes(), app.LayerBytes(0)[1000:2000]) {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

// Of a wrong blob no file comes to stand, and a stream never has the last bytes.
func TestBlobVerifies(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	app := server.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 300_000)}})
	layer := app.Layers[0]
	server.Configure(func(o *registrytest.Options) {
		o.Corrupt = map[digest.Digest]*registrytest.Corrupt{layer.Digest: {Flip: []int64{1000}}}
	})
	name := server.Host() + "/app@" + layer.Digest.String()
	var out bytes.Buffer
	if _, err := davit.Blob(t.Context(), name, davit.BlobOptions{Stream: &out}); !errors.Is(err, image.ErrVerification) || int64(out.Len()) >= layer.Size {
		t.Errorf("a stream: %d of %d bytes, %v", out.Len(), layer.Size, err)
	}
	path := filepath.Join(t.TempDir(), "x")
	if _, err := davit.Blob(t.Context(), name, davit.BlobOptions{Output: path}); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a file: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file stands there")
	}
}
