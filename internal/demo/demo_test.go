package demo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"reflect"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// indexDigest stands for every byte of the image. Where it changes with no
// change here, a toolchain or module writes other bytes than before.
const indexDigest = "sha256:da5157cf46a718e5ec66ae082db9337680239fa9f216491f362ba06a3b30a8bc"

func TestBuildIsDeterministic(t *testing.T) {
	first := build(t)
	second, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("two builds differ")
	}
	if got := first.Index.Digest; got != indexDigest {
		t.Errorf("the index is %s, want %s", got, indexDigest)
	}
}

func TestAddTo(t *testing.T) {
	c, r := build(t), newRegistry()
	if got := c.AddTo(r); got.Digest != c.Index.Digest {
		t.Errorf("AddTo returned %s, the index is %s", got.Digest, c.Index.Digest)
	}
	if got := r.tags["davit/demo:latest"]; got != c.Index.Digest || len(r.tags) != 1 {
		t.Errorf("tags are %v, want only davit/demo:latest with %s", r.tags, c.Index.Digest)
	}
	if want := len(platforms) + 2; len(r.manifests) != want {
		t.Errorf("%d manifests, want %d", len(r.manifests), want)
	}
	if want := 2 + len(programs) + len(platforms) + 2; len(r.blobs) != want || len(c.Blobs) != want {
		t.Errorf("%d blobs, %d of them different, want %d", len(c.Blobs), len(r.blobs), want)
	}
}

// TestImage reads the image as a client does: only what descriptors lead to,
// checked against size and digest.
func TestImage(t *testing.T) {
	c, r := build(t), newRegistry()
	var index ocispec.Index
	r.decode(t, c.AddTo(r), ocispec.MediaTypeImageIndex, &index)
	if index.SchemaVersion != 2 || index.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("the index says schema %d, media type %s", index.SchemaVersion, index.MediaType)
	}
	if len(index.Manifests) != len(platforms)+1 {
		t.Fatalf("the index has %d manifests, want %d", len(index.Manifests), len(platforms)+1)
	}
	for i, platform := range platforms {
		listed := index.Manifests[i]
		if listed.Platform == nil || !reflect.DeepEqual(*listed.Platform, platform) {
			t.Fatalf("manifest %d is for %+v, want %+v", i, listed.Platform, platform)
		}
		var m ocispec.Manifest
		r.decode(t, listed, ocispec.MediaTypeImageManifest, &m)
		var config ocispec.Image
		r.decode(t, m.Config, ocispec.MediaTypeImageConfig, &config)
		if !reflect.DeepEqual(config.Platform, platform) {
			t.Errorf("the config is for %+v, want %+v", config.Platform, platform)
		}
		if !reflect.DeepEqual(config.Config.Cmd, []string{"/hello"}) || config.Config.WorkingDir != "/" {
			t.Errorf("the config runs %q in %q", config.Config.Cmd, config.Config.WorkingDir)
		}
		if len(m.Layers) != 3 || len(config.RootFS.DiffIDs) != 3 {
			t.Fatalf("%d layers, %d diffIDs, want 3", len(m.Layers), len(config.RootFS.DiffIDs))
		}
		layers := 0
		for _, h := range config.History {
			if !h.EmptyLayer {
				layers++
			}
		}
		if layers != 3 {
			t.Errorf("the history tells of %d layers, want 3", layers)
		}

		tree := map[string]*tar.Header{}
		files := map[string][]byte{}
		for j, l := range m.Layers {
			if l.MediaType != ocispec.MediaTypeImageLayerGzip {
				t.Errorf("layer %d is %s", j, l.MediaType)
			}
			plain := gunzip(t, r.read(t, l))
			if got := digest.FromBytes(plain); got != config.RootFS.DiffIDs[j] {
				t.Errorf("layer %d decompresses to %s, its diffID is %s", j, got, config.RootFS.DiffIDs[j])
			}
			untar(t, plain, tree, files)
		}
		wantModes := map[string]fs.FileMode{
			"tmp/": 0o777 | fs.ModeSticky | fs.ModeDir, "var/tmp/": 0o777 | fs.ModeSticky | fs.ModeDir,
			"root/": 0o700 | fs.ModeDir, "etc/": 0o755 | fs.ModeDir,
			"etc/os-release": 0o644, "etc/passwd": 0o644, "etc/group": 0o644,
			"usr/share/davit/cargo.bin": 0o644, "hello": 0o755,
		}
		for name, want := range wantModes {
			if h := tree[name]; h == nil {
				t.Errorf("%s is missing", name)
			} else if got := h.FileInfo().Mode(); got != want {
				t.Errorf("%s has mode %v, want %v", name, got, want)
			}
		}
		if !bytes.Contains(files["etc/os-release"], []byte("NAME=\"davit demo\"\n")) {
			t.Errorf("etc/os-release is %q", files["etc/os-release"])
		}
		for _, p := range programs {
			if p.architecture == platform.Architecture && !bytes.Equal(files["hello"], executable(t, p)) {
				t.Errorf("hello is not the program for %s", p.architecture)
			}
		}
		if !bytes.Contains(files["hello"], []byte(Greeting(platform.Architecture))) {
			t.Errorf("hello does not greet from %s", platform.Architecture)
		}
		if got := len(files["usr/share/davit/cargo.bin"]); got != cargoSize {
			t.Errorf("cargo.bin has %d bytes, want %d", got, cargoSize)
		}
	}
}

func TestAttestation(t *testing.T) {
	c, r := build(t), newRegistry()
	var index ocispec.Index
	r.decode(t, c.AddTo(r), ocispec.MediaTypeImageIndex, &index)
	last := index.Manifests[len(index.Manifests)-1]
	if !reflect.DeepEqual(last.Platform, &image.Platform{OS: "unknown", Architecture: "unknown"}) {
		t.Errorf("the attestation's platform is %+v", last.Platform)
	}
	if got, want := last.Annotations["vnd.docker.reference.digest"], index.Manifests[0].Digest.String(); got != want {
		t.Errorf("the attestation is for %s, want %s", got, want)
	}
	var m ocispec.Manifest
	r.decode(t, last, ocispec.MediaTypeImageManifest, &m)
	var config ocispec.Image
	r.decode(t, m.Config, ocispec.MediaTypeImageConfig, &config)
	if len(m.Layers) != 1 || !reflect.DeepEqual(config.RootFS.DiffIDs, []digest.Digest{m.Layers[0].Digest}) {
		t.Fatalf("layers are %v, diffIDs %v", m.Layers, config.RootFS.DiffIDs)
	}
	var statement struct {
		Subject []struct{ Digest map[string]string }
	}
	r.decode(t, m.Layers[0], "application/vnd.in-toto+json", &statement)
	if len(statement.Subject) != 1 || statement.Subject[0].Digest["sha256"] != index.Manifests[0].Digest.Encoded() {
		t.Errorf("the statement's subject is %v", statement.Subject)
	}
}

// TestCargoIsIncompressible keeps the layer's size honest.
func TestCargoIsIncompressible(t *testing.T) {
	var cargo image.Content
	for _, blob := range build(t).Blobs {
		if blob.Size > cargo.Size {
			cargo = blob
		}
	}
	if cargo.Size < cargoSize {
		t.Fatalf("the largest layer has %d bytes, want %d at least", cargo.Size, cargoSize)
	}
	const sample = 1 << 20
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(cargo.Bytes[cargoSize/2:][:sample]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if packed.Len() < sample {
		t.Errorf("gzip makes %d bytes of %d", packed.Len(), sample)
	}
}

func TestGzipStored(t *testing.T) {
	for _, size := range []int{0, 1, 0xfffe, 0xffff, 0x10000, 2 * 0xffff, 2*0xffff + 1} {
		data := bytes.Repeat([]byte("davit"), size/5+1)[:size]
		if got := gunzip(t, gzipStored(data)); !bytes.Equal(got, data) {
			t.Errorf("%d bytes come back as %d others", size, len(got))
		}
	}
}

// fakeRegistry is a Registry for one repository.
type fakeRegistry struct {
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest][]byte
	tags      map[string]digest.Digest
}

func newRegistry() *fakeRegistry {
	return &fakeRegistry{map[digest.Digest][]byte{}, map[digest.Digest][]byte{}, map[string]digest.Digest{}}
}

func (r *fakeRegistry) AddBlob(raw []byte) image.Descriptor {
	d := content("application/octet-stream", raw).Descriptor
	r.blobs[d.Digest] = raw
	return d
}

func (r *fakeRegistry) AddManifest(repository, tag, mediaType string, raw []byte) image.Descriptor {
	d := content(mediaType, raw).Descriptor
	r.manifests[d.Digest] = raw
	if tag != "" {
		r.tags[repository+":"+tag] = d.Digest
	}
	return d
}

// read returns what d names, of the size that it tells.
func (r *fakeRegistry) read(t *testing.T, d image.Descriptor) []byte {
	t.Helper()
	raw, ok := r.blobs[d.Digest]
	if d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == ocispec.MediaTypeImageManifest {
		raw, ok = r.manifests[d.Digest]
	}
	if !ok {
		t.Fatalf("%s %s is not in the registry", d.MediaType, d.Digest)
	}
	if int64(len(raw)) != d.Size {
		t.Fatalf("%s has %d bytes, its descriptor says %d", d.Digest, len(raw), d.Size)
	}
	return raw
}

func (r *fakeRegistry) decode(t *testing.T, d image.Descriptor, mediaType string, v any) {
	t.Helper()
	if d.MediaType != mediaType {
		t.Fatalf("%s is %s, want %s", d.Digest, d.MediaType, mediaType)
	}
	if err := json.Unmarshal(r.read(t, d), v); err != nil {
		t.Fatalf("decode %s: %v", d.Digest, err)
	}
}

var buildOnce = sync.OnceValues(Build)

// build returns the image, the same one for all tests.
func build(t *testing.T) Content {
	t.Helper()
	c, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func gunzip(t *testing.T, raw []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func untar(t *testing.T, raw []byte, tree map[string]*tar.Header, files map[string][]byte) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(created) || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is of %v, owner %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		tree[h.Name] = h
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
