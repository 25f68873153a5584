package registrytest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

func someImage() registrytest.Image {
	files := []registrytest.File{
		registrytest.Dir("etc"), registrytest.Text("etc/motd", "hello\n"),
		registrytest.Symlink("motd", "etc/motd"), registrytest.Hardlink("etc/issue", "etc/motd"),
	}
	random := registrytest.RandomLayer(7, 100_000)
	plain := registrytest.RandomLayer(8, 100_000)
	plain.Compression = registrytest.None
	return registrytest.Image{
		Platform: image.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		Layers:   []registrytest.Layer{{Files: files}, {Files: files[:2], Compression: registrytest.Zstd}, random, plain},
		Config:   ocispec.ImageConfig{Cmd: []string{"/hello"}, Labels: map[string]string{"b": "<2>", "a": "1"}},
	}
}

func TestBuild(t *testing.T) {
	for _, docker := range []bool{false, true} {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			img := someImage()
			img.Docker, img.Algorithm = docker, algorithm
			s := registrytest.Start(t, registrytest.Options{})
			p := s.Push("a/b", "v1", img)
			if again := registrytest.Build(img); !bytes.Equal(p.ManifestBytes, again.ManifestBytes) {
				t.Error("the same image has other bytes")
			}

			var m ocispec.Manifest
			var config ocispec.Image
			if err := json.Unmarshal(p.ManifestBytes, &m); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(p.ConfigBytes, &config); err != nil {
				t.Fatal(err)
			}
			types := []string{m.MediaType, m.Config.MediaType}
			for _, l := range m.Layers {
				types = append(types, l.MediaType)
			}
			want := []string{
				ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig,
				ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayer,
			}
			if docker {
				const layer = "application/vnd.docker.image.rootfs.diff.tar"
				want = []string{registrytest.DockerManifest, registrytest.DockerConfig, layer + ".gzip", layer + ".zstd", layer + ".gzip", layer}
			}
			if !slices.Equal(types, want) {
				t.Errorf("media types %q", types)
			}
			if config.Variant != "v8" || len(config.History) != 5 || config.Config.Labels["b"] != "<2>" {
				t.Errorf("config %+v", config)
			}
			c := client(t, s)
			for i, l := range m.Layers {
				blob := get(t, c, s.URL()+"/v2/a/b/blobs/"+l.Digest.String()).body
				if l.Digest != algorithm.FromBytes(blob) || l.Size != int64(len(blob)) || !bytes.Equal(blob, p.LayerBytes(i)) {
					t.Errorf("layer %d is not as described", i)
				}
				plain := unpack(t, img.Layers[i].Compression, blob)
				if digest.FromBytes(plain) != config.RootFS.DiffIDs[i] {
					t.Errorf("layer %d has another diffID", i)
				}
				if names := namesOf(t, plain); i == 0 && !slices.Equal(names, []string{"etc/", "etc/motd", "motd", "etc/issue"}) {
					t.Errorf("layer %d holds %q", i, names)
				}
			}
			if blob := get(t, c, s.URL()+"/v2/a/b/blobs/"+m.Config.Digest.String()).body; m.Config.Digest != algorithm.FromBytes(blob) {
				t.Error("the config is not as described")
			}
			wantStatus(t, get(t, c, s.URL()+"/v2/a/b/manifests/"+p.Manifest.Digest.String()), 200)
		}
	}
}

func unpack(t *testing.T, c registrytest.Compression, blob []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(blob)
	var err error
	switch c {
	case registrytest.Gzip:
		r, err = gzip.NewReader(r)
	case registrytest.Zstd:
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func namesOf(t *testing.T, plain []byte) (names []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(plain))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestRandomLayer(t *testing.T) {
	for size, want := range map[int64]int64{0: 2048, 1 << 20: 1 << 20, 1<<20 + 1: 1<<20 + 512} {
		l := registrytest.RandomLayer(3, size)
		l.Compression = registrytest.None
		p := registrytest.Build(registrytest.Image{Layers: []registrytest.Layer{l}})
		if p.Layers[0].Size != want {
			t.Errorf("RandomLayer(%d) has %d bytes", size, p.Layers[0].Size)
		}
		whole := p.LayerBytes(0)
		if names := namesOf(t, whole); len(names) != 1 {
			t.Errorf("it holds %q", names)
		}
		for _, off := range []int64{0, 1, 511, 513, want - 1025, want - 1} { // pieces are as the whole
			piece := make([]byte, min(1500, want-off))
			if n, err := p.LayerContent[0].ReadAt(piece, off); n != len(piece) || !bytes.Equal(piece, whole[off:off+int64(n)]) {
				t.Errorf("%d bytes at %d: %v", n, off, err)
			}
		}
		if n, err := p.LayerContent[0].ReadAt(make([]byte, 2), want-1); n != 1 || err != io.EOF {
			t.Errorf("past the end: %d, %v", n, err)
		}
	}
	random := registrytest.RandomBytes(1, 1<<20)
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(w.EncodeAll(random, nil)); n < len(random) {
		t.Errorf("random bytes compress to %d", n)
	}
}

func TestPushIndex(t *testing.T) {
	windows := func(version string) registrytest.Image {
		return registrytest.Image{Platform: image.Platform{OS: "windows", Architecture: "amd64", OSVersion: version}}
	}
	s := registrytest.Start(t, registrytest.Options{})
	p := s.PushIndex("a/b", "v1", registrytest.Index{
		Images:       []registrytest.Image{someImage(), windows("10.0.1"), windows("10.0.2")},
		Indexes:      []registrytest.Index{{Images: []registrytest.Image{{}}, Docker: true}},
		Attestations: true,
	})
	c := client(t, s)
	a := get(t, c, s.URL()+"/v2/a/b/manifests/v1")
	wantStatus(t, a, 200)
	var index ocispec.Index
	if err := json.Unmarshal(a.body, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 7 || a.Header.Get("Content-Type") != ocispec.MediaTypeImageIndex || digest.FromBytes(a.body) != p.Index.Digest {
		t.Fatalf("%d manifests, %v", len(index.Manifests), a.Header)
	}
	if v := index.Manifests[2].Platform.OSVersion; v != "10.0.2" {
		t.Errorf("os.version %s", v)
	}
	if d := index.Manifests[3]; d.MediaType != registrytest.DockerManifestList || d.Digest != p.Indexes[0].Index.Digest {
		t.Errorf("nested index %+v", d)
	}
	if d := index.Manifests[4]; d.Platform.OS != "unknown" || d.Annotations["vnd.docker.reference.digest"] != p.Images[0].Manifest.Digest.String() {
		t.Errorf("attestation %+v", d)
	}
	for _, d := range index.Manifests {
		a := get(t, c, s.URL()+"/v2/a/b/manifests/"+d.Digest.String())
		if a.StatusCode != 200 || int64(len(a.body)) != d.Size || a.Header.Get("Content-Type") != d.MediaType {
			t.Errorf("%s: %d %v", d.Digest, a.StatusCode, a.Header)
		}
	}
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Attestations[0].Layers[0].Digest.String()), 200)
}

func TestAbsentAndRaw(t *testing.T) {
	absent := registrytest.RandomLayer(1, 4096)
	absent.Absent = true
	s := registrytest.Start(t, registrytest.Options{})
	p := s.Push("a/b", "v1", registrytest.Image{RawConfig: []byte(`{"x":"\u003c"}`), Layers: []registrytest.Layer{absent}, NoMediaType: true})
	c := client(t, s)
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Layers[0].Digest.String()), 404)
	if a := get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Config.Digest.String()); string(a.body) != `{"x":"\u003c"}` {
		t.Errorf("config %q", a.body)
	}
	if !bytes.HasPrefix(p.ManifestBytes, []byte(`{"schemaVersion":2,"config":`)) {
		t.Errorf("manifest %s", p.ManifestBytes)
	}
	d := s.PushRaw("a/b", "raw", "application/x", []byte("no json"))
	if a := get(t, c, s.URL()+"/v2/a/b/manifests/"+d.Digest.String()); string(a.body) != "no json" || a.Header.Get("Content-Type") != "application/x" {
		t.Errorf("%q %v", a.body, a.Header)
	}
}
