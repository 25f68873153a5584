package recode

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

const (
	ociGzip = ocispec.MediaTypeImageLayerGzip
	ociZstd = ocispec.MediaTypeImageLayerZstd
	ociTar  = ocispec.MediaTypeImageLayer
)

// registry is an image.Source, and what the layers are opened from.
type registry struct {
	documents map[string]image.Content
	blobs     map[digest.Digest][]byte

	mu     sync.Mutex
	opened []digest.Digest
}

func newRegistry() *registry {
	return &registry{documents: map[string]image.Content{}, blobs: map[digest.Digest][]byte{}}
}

func (r *registry) Manifest(_ context.Context, tagOrDigest string) (image.Content, error) {
	c, ok := r.documents[tagOrDigest]
	if !ok {
		return c, image.ErrNotFound
	}
	return c, nil
}

func (r *registry) Blob(_ context.Context, d image.Descriptor) ([]byte, error) {
	return r.blobs[d.Digest], nil
}

func (r *registry) OpenRange(context.Context, image.Descriptor, int64, int64) (*image.Range, error) {
	return nil, errors.New("a range is asked for")
}

func (r *registry) open(_ context.Context, d image.Descriptor) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = append(r.opened, d.Digest)
	b, ok := r.blobs[d.Digest]
	if !ok {
		return nil, image.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func descriptor(mediaType string, b []byte) image.Descriptor {
	return image.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func (r *registry) blob(mediaType string, b []byte) image.Descriptor {
	d := descriptor(mediaType, b)
	r.blobs[d.Digest] = b
	return d
}

func (r *registry) document(mediaType string, v any, tags ...string) image.Descriptor {
	b, ok := v.([]byte)
	if !ok {
		b, _ = json.Marshal(v)
	}
	d := descriptor(mediaType, b)
	for _, name := range append(tags, d.Digest.String()) {
		r.documents[name] = image.Content{Descriptor: d, Bytes: b}
	}
	return d
}

// layer is a tar, and its descriptor in a manifest.
type layer struct {
	image.Descriptor
	diffID digest.Digest
}

func (r *registry) layer(mediaType string, tar []byte) layer {
	return layer{r.blob(mediaType, encode(mediaType, tar)), digest.FromBytes(tar)}
}

func encode(mediaType string, b []byte) []byte {
	var out bytes.Buffer
	var z io.WriteCloser
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		z = gzip.NewWriter(&out)
	case strings.HasSuffix(mediaType, "zstd"):
		z, _ = zstd.NewWriter(&out)
	default:
		return b
	}
	if _, err := z.Write(b); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func (r *registry) image(architecture string, layers ...layer) image.Descriptor {
	return r.imageOf(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, architecture, layers...)
}

func (r *registry) imageOf(mediaType, configType, architecture string, layers ...layer) image.Descriptor {
	p := image.Platform{OS: "linux", Architecture: architecture}
	config := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	m := ocispec.Manifest{MediaType: mediaType, Layers: []image.Descriptor{}, Annotations: map[string]string{"of": "<manifest>"}}
	m.SchemaVersion = 2
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		m.Layers = append(m.Layers, l.Descriptor)
	}
	b, _ := json.Marshal(config)
	m.Config = r.blob(configType, b)
	d := r.document(m.MediaType, m)
	d.Platform = &p
	return d
}

func (r *registry) index(manifests ...image.Descriptor) image.Descriptor {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	index.SchemaVersion = 2
	return r.document(index.MediaType, index)
}

func (r *registry) resolve(t *testing.T, d image.Descriptor, want image.Platforms) image.Image {
	t.Helper()
	name := ref.Reference{Registry: "r.io", Repository: "a", Digest: d.Digest}
	img, err := image.Resolve(context.Background(), r, name, want, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// blobs is a Sink.
type blobs struct {
	t     *testing.T
	order []digest.Digest
	bytes map[digest.Digest][]byte
}

func newBlobs(t *testing.T) *blobs { return &blobs{t: t, bytes: map[digest.Digest][]byte{}} }

func (s *blobs) Blob(write func(io.Writer) (image.Descriptor, error)) error {
	var b bytes.Buffer
	d, err := write(&b)
	if err != nil {
		return err
	}
	if got := d.Digest.Algorithm().FromBytes(b.Bytes()); got != d.Digest || d.Size != int64(b.Len()) {
		s.t.Errorf("%d bytes of digest %s are called %+v", b.Len(), got, d)
	}
	s.order = append(s.order, d.Digest)
	s.bytes[d.Digest] = b.Bytes()
	return nil
}

func randomTar(seed uint64, size int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	body := make([]byte, size)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range body {
		body[i] = "abcdefgh"[rnd.Uint32()&7]
	}
	if err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(size)}); err != nil {
		panic(err)
	}
	if _, err := w.Write(body); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// notes are what a person reads.
type notes []string

func (n *notes) send(e image.Event) {
	if e.Kind == image.EventNote {
		*n = append(*n, e.Text)
	}
}

// hold checks that the layers of an image are in the sink, of the wanted form,
// and decode to what its config says.
func hold(t *testing.T, img image.Image, sink *blobs, want Compression) {
	t.Helper()
	for _, m := range img.Manifests {
		if digest.FromBytes(m.Bytes) != m.Digest || int64(len(m.Bytes)) != m.Size {
			t.Errorf("the manifest's descriptor is %+v", m.Descriptor)
		}
		parsed, err := image.ParseManifest(m.Content)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(parsed.Layers, m.Layers); diff != "" {
			t.Errorf("the manifest names other layers:\n%s", diff)
		}
		if !m.IsImage() {
			continue
		}
		ids, err := m.DiffIDs()
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range m.Layers {
			b, ok := sink.bytes[l.Digest]
			if !ok {
				t.Errorf("layer %d is not there", i+1)
				continue
			}
			if (want == Gzip) != strings.HasSuffix(l.MediaType, "gzip") || strings.HasSuffix(l.MediaType, "zstd") {
				t.Errorf("layer %d is %s", i+1, l.MediaType)
			}
			if want == Gzip {
				z, err := gzip.NewReader(bytes.NewReader(b))
				if err == nil {
					b, err = io.ReadAll(z)
				}
				if err != nil {
					t.Errorf("layer %d: %v", i+1, err)
				}
			}
			if got := ids[i].Algorithm().FromBytes(b); got != ids[i] {
				t.Errorf("layer %d has the digest %s, not %s", i+1, got, ids[i])
			}
		}
	}
}

func TestImages(t *testing.T) {
	for _, want := range []Compression{Gzip, None} {
		t.Run(want.String(), func(t *testing.T) {
			src := newRegistry()
			gz, zs, plain := src.layer(ociGzip, randomTar(1, 10_000)), src.layer(ociZstd, randomTar(2, 2<<20)), src.layer(ociTar, randomTar(3, 700))
			zs.Annotations = map[string]string{
				"io.github.containers.zstd-chunked.manifest-checksum": "sha256:x", "io.containers.estargz.uncompressed-size": "1",
				"containerd.io/snapshot/stargz/toc.digest": "sha256:y", "stays": "here",
			}
			zs.URLs = []string{"https://elsewhere"}
			d := src.image("amd64", gz, zs, plain, zs)
			img := src.resolve(t, d, image.Platforms{})
			sink, said := newBlobs(t), notes{}
			got, err := Images(context.Background(), []image.Image{img, img}, want, src.open, sink, Options{Events: said.send})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got[0].Root(), got[1].Root()); diff != "" {
				t.Errorf("the same image differs:\n%s", diff)
			}
			hold(t, got[0], sink, want)
			if n := map[Compression]int{Gzip: 2, None: 2}[want]; len(Plan(img, want)) != n {
				t.Errorf("Plan has %v", Plan(img, want))
			}
			if len(src.opened) != 3 || len(sink.order) != 3 {
				t.Errorf("%d layers were opened and %d written, want 3", len(src.opened), len(sink.order))
			}
			m := got[0].Manifests[0]
			kept := map[Compression]layer{Gzip: gz, None: plain}[want]
			if !slices.ContainsFunc(m.Layers, func(l image.Descriptor) bool { return l.Digest == kept.Digest }) {
				t.Error("a layer that is as wanted changed")
			}
			if diff := cmp.Diff(map[string]string{"stays": "here"}, m.Layers[1].Annotations); diff != "" || m.Layers[1].URLs != nil {
				t.Errorf("the layer became %+v", m.Layers[1])
			}
			if m.Config.Digest != img.Manifests[0].Config.Digest || !strings.Contains(string(m.Bytes), `"of":"\u003cmanifest\u003e"`) {
				t.Errorf("the manifest is %s", m.Bytes)
			}
			if got[0].Name.Digest != m.Digest || got[0].Reference.Digest != d.Digest {
				t.Errorf("it is called %s", got[0].Name)
			}
			text := fmt.Sprintf("changed from %s to %s; the image ID %s did not", d.Digest, m.Digest, m.Config.Digest)
			if !strings.Contains(strings.Join(said, "\n"), text) {
				t.Errorf("%q does not say %q", said, text)
			}
		})
	}
}

// The bytes depend on neither the processors nor the way that the bytes come in.
func TestSameBytes(t *testing.T) {
	src := newRegistry()
	img := src.resolve(t, src.image("amd64", src.layer(ociZstd, randomTar(1, 2<<20)), src.layer(ociTar, nil)), image.Platforms{})
	var first []image.Image
	for _, procs := range []int{1, 2, 8} {
		before := runtime.GOMAXPROCS(procs)
		open := func(ctx context.Context, d image.Descriptor) (io.ReadCloser, error) {
			b, err := src.open(ctx, d)
			return io.NopCloser(iotest.HalfReader(b)), err
		}
		got, err := Images(context.Background(), []image.Image{img}, Gzip, open, newBlobs(t), Options{})
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		} else if got[0].Root().Digest != first[0].Root().Digest {
			t.Errorf("on %d processors the manifest differs", procs)
		}
	}
	slow, err := Images(context.Background(), []image.Image{img}, Gzip, src.open, newBlobs(t), Options{Level: 9})
	if err != nil || slow[0].Root().Digest == first[0].Root().Digest {
		t.Errorf("level 9 changes nothing, %v", err)
	}
	if _, err := Images(context.Background(), []image.Image{img}, Gzip, src.open, newBlobs(t), Options{Level: 10}); err == nil {
		t.Error("level 10 is taken")
	}
}

func TestNothingToDo(t *testing.T) {
	src := newRegistry()
	manifest := src.image("amd64", src.layer(ociGzip, randomTar(1, 1000)), src.layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", randomTar(2, 1000)))
	chart := src.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Config: src.blob("application/vnd.cncf.helm.config.v1+json", []byte("{}")),
		Layers: []image.Descriptor{src.blob(ociZstd, []byte("no tar")), src.blob("application/json", []byte("{}"))},
	})
	for _, d := range []image.Descriptor{manifest, chart} {
		img := src.resolve(t, d, image.Platforms{})
		sink := newBlobs(t)
		src.opened = nil
		got, err := Images(context.Background(), []image.Image{img}, Gzip, src.open, sink, Options{Events: func(e image.Event) { t.Errorf("it says %s", e.Text) }})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(img, got[0], cmp.Comparer(func(a, b *registry) bool { return a == b })); diff != "" {
			t.Errorf("the image changed:\n%s", diff)
		}
		for _, l := range img.Manifests[0].Layers {
			if !bytes.Equal(sink.bytes[l.Digest], src.blobs[l.Digest]) {
				t.Errorf("layer %s is not there", l.Digest)
			}
		}
		if len(Plan(img, Gzip)) != 0 {
			t.Errorf("Plan has %v", Plan(img, Gzip))
		}
	}
	// What stands there already is not copied.
	img := src.resolve(t, manifest, image.Platforms{})
	sink := newBlobs(t)
	have := func(d image.Descriptor) bool { return d.Digest == img.Manifests[0].Layers[0].Digest }
	if _, err := Images(context.Background(), []image.Image{img}, Gzip, src.open, sink, Options{Have: have}); err != nil || len(sink.order) != 1 {
		t.Errorf("%d blobs were copied, %v", len(sink.order), err)
	}
}

func TestDockerStaysDocker(t *testing.T) {
	src := newRegistry()
	zs, foreign := src.layer(image.MediaTypeDockerLayerZstd, randomTar(1, 1000)), src.layer(image.MediaTypeDockerForeignLayer, randomTar(2, 1000))
	img := src.resolve(t, src.imageOf(image.MediaTypeDockerManifest, image.MediaTypeDockerConfig, "amd64", zs, foreign), image.Platforms{})
	for want, types := range map[Compression][]string{
		Gzip: {image.MediaTypeDockerLayerGzip, image.MediaTypeDockerForeignLayer},
		None: {image.MediaTypeDockerLayer, "application/vnd.docker.image.rootfs.foreign.diff.tar"},
	} {
		got, err := Images(context.Background(), []image.Image{img}, want, src.open, newBlobs(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := got[0].Manifests[0]
		if m.MediaType != image.MediaTypeDockerManifest || m.Layers[0].MediaType != types[0] || m.Layers[1].MediaType != types[1] {
			t.Errorf("%s: the manifest is %s", want, m.Bytes)
		}
	}
}

func TestIndex(t *testing.T) {
	src := newRegistry()
	attestation := func(of image.Descriptor) image.Descriptor {
		d := src.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			MediaType:   ocispec.MediaTypeImageManifest,
			Config:      src.blob(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":["`+digest.FromString("x").String()+`"]}}`)),
			Layers:      []image.Descriptor{src.blob("application/vnd.in-toto+json", []byte(of.Digest))},
			Annotations: map[string]string{"of": of.Digest.String()},
		})
		d.Platform = &image.Platform{OS: "unknown", Architecture: "unknown"}
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of.Digest.String()}
		return d
	}
	shared := src.layer(ociGzip, randomTar(1, 1000))
	amd64 := src.image("amd64", shared, src.layer(ociZstd, randomTar(2, 1000)))
	amd64.Annotations = map[string]string{"io.github.containers.compression.zstd": "true", "stays": "here"}
	arm64 := src.image("arm64", shared, src.layer(ociGzip, randomTar(3, 1000)))
	s390x := src.image("s390x", shared, src.layer(ociZstd, randomTar(4, 1000)))
	ofAMD, ofARM := attestation(amd64), attestation(arm64)
	root := src.index(amd64, arm64, src.index(s390x), ofAMD, ofARM)

	img := src.resolve(t, root, image.Platforms{All: true})
	sink, said := newBlobs(t), notes{}
	all, err := Images(context.Background(), []image.Image{img}, Gzip, src.open, sink, Options{Events: said.send})
	if err != nil {
		t.Fatal(err)
	}
	got := all[0]
	hold(t, got, sink, Gzip)
	index, err := image.ParseIndex(got.Root())
	if err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 4 || len(got.Manifests) != 4 || len(got.Indexes) != 2 || got.Name.Digest != got.Root().Digest {
		t.Fatalf("the index is %s", got.Root().Bytes)
	}
	if e := index.Manifests[0]; e.Digest != got.Manifests[0].Digest || e.Digest == amd64.Digest || len(e.Annotations) != 1 || e.Platform.Architecture != "amd64" {
		t.Errorf("the first entry is %+v", e)
	}
	if diff := cmp.Diff([]image.Descriptor{arm64, ofARM}, []image.Descriptor{index.Manifests[1], index.Manifests[3]}); diff != "" {
		t.Errorf("what was as wanted changed:\n%s", diff)
	}
	if e := index.Manifests[2]; e.Digest != got.Indexes[1].Digest {
		t.Errorf("the nested index is named %+v", e)
	}
	text := strings.Join(said, "\n")
	if !strings.Contains(text, "index's digest changed from "+root.Digest.String()+" to "+got.Root().Digest.String()) || !strings.Contains(text, "attestations are left out (1)") {
		t.Errorf("it says %s", text)
	}
	for _, d := range img.Blobs() {
		if d.MediaType == "application/vnd.in-toto+json" && (sink.bytes[d.Digest] != nil) != (string(src.blobs[d.Digest]) == arm64.Digest.String()) {
			t.Errorf("the attestation of %s is in the wrong place", src.blobs[d.Digest])
		}
	}

	// An image that claims to tell about another one is an image nevertheless.
	liar := arm64
	liar.Annotations = map[string]string{"vnd.docker.reference.digest": amd64.Digest.String()}
	img = src.resolve(t, src.index(amd64, liar), image.Platforms{List: []image.Platform{*amd64.Platform, *arm64.Platform}})
	if all, err = Images(context.Background(), []image.Image{img}, Gzip, src.open, newBlobs(t), Options{}); err != nil {
		t.Fatal(err)
	}
	if len(all[0].Manifests) != 2 {
		t.Errorf("of two images %d are left, the index is %s", len(all[0].Manifests), all[0].Root().Bytes)
	}

	// One platform: what else the index names stays, but for what attests it.
	img = src.resolve(t, root, image.Platforms{List: []image.Platform{*amd64.Platform}})
	if all, err = Images(context.Background(), []image.Image{img}, Gzip, src.open, newBlobs(t), Options{}); err != nil {
		t.Fatal(err)
	}
	if index, err = image.ParseIndex(all[0].Root()); err != nil || len(index.Manifests) != 4 || index.Manifests[3].Digest != ofARM.Digest {
		t.Errorf("the index is %s, %v", all[0].Root().Bytes, err)
	}
}

func TestBroken(t *testing.T) {
	raw := randomTar(1, 100_000)
	half := len(raw) / 2
	gz, zs := encode("gzip", raw), encode("zstd", raw)
	disk := errors.New("the disk is broken")
	tests := []struct {
		name      string
		mediaType string
		blob      []byte
		tar       []byte
		want      error // nil: none
	}{
		{"members of a gzip", ociGzip, slices.Concat(encode("gzip", raw[:half]), encode("gzip", raw[half:])), raw, nil},
		{"frames of zstd", ociZstd, slices.Concat(encode("zstd", raw[:half]), []byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), encode("zstd", raw[half:])), raw, nil},
		{"zstd that is called gzip", ociGzip, zs, raw, nil},
		{"no tar at all", ociZstd, encode("zstd", nil), nil, nil},
		{"no byte at all", ociZstd, nil, nil, nil},
		{"garbage in the tar", ociZstd, encode("zstd", append(raw, "garbage"...)), append(raw, "garbage"...), nil},
		{"garbage behind gzip", ociGzip, append(gz, "garbage"...), raw, image.ErrVerification},
		{"garbage behind zstd", ociZstd, append(zs, "garbage"...), raw, image.ErrVerification},
		{"truncated gzip", ociGzip, gz[:len(gz)-9], raw, image.ErrVerification},
		{"truncated zstd", ociZstd, zs[:len(zs)-5], raw, image.ErrVerification},
		{"a gzip header alone", ociGzip, gz[:4], nil, image.ErrVerification},
		{"another tar", ociZstd, encode("zstd", randomTar(2, 10)), raw, image.ErrVerification},
		{"xz", ociGzip, []byte("\xfd7zXZ\x00..."), raw, image.ErrVerification},
		{"a large window", ociZstd, []byte("\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00"), nil, image.ErrVerification},
		{"a bomb", ociZstd, encode("zstd", make([]byte, 1<<20)), make([]byte, 1<<20), ErrLimit},
		{"a disk", ociZstd, zs, raw, disk},
		{"a sink", ociZstd, zs, raw, errFull},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := newRegistry()
			l := layer{src.blob(tt.mediaType, tt.blob), digest.FromBytes(tt.tar)}
			d := src.image("amd64", l)
			img := src.resolve(t, d, image.Platforms{})
			want := map[string]Compression{ociGzip: None, ociZstd: Gzip}[tt.mediaType]
			open := src.open
			if tt.want == disk {
				open = func(context.Context, image.Descriptor) (io.ReadCloser, error) {
					return io.NopCloser(io.MultiReader(bytes.NewReader(tt.blob[:100]), iotest.ErrReader(disk))), nil
				}
			}
			blobs := newBlobs(t)
			var sink Sink = blobs
			if tt.want == errFull {
				sink = full{}
			}
			got, err := Images(context.Background(), []image.Image{img}, want, open, sink, Options{MaxBytes: 1<<20 - 1})
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				hold(t, got[0], blobs, want)
				return
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "layer 1 ("+l.Digest.String()+")") {
				t.Errorf("the error is %v", err)
			}
			if ours := tt.want == disk || tt.want == errFull; errors.Is(err, image.ErrVerification) == ours {
				t.Errorf("the fault is laid on the wrong one: %v", err)
			}
			if len(blobs.order) > 0 {
				t.Error("a broken layer is kept")
			}
			if tt.name == "another tar" && !(strings.Contains(err.Error(), l.diffID.String()) && strings.Contains(err.Error(), digest.FromBytes(randomTar(2, 10)).String())) {
				t.Errorf("the error does not name both: %v", err)
			}
		})
	}
}

var errFull = errors.New("the sink is full")

// full is a Sink that takes 100 bytes of a blob.
type full struct{}

func (full) Blob(write func(io.Writer) (image.Descriptor, error)) error {
	_, err := write(&room{100})
	return err
}

type room struct{ n int }

func (r *room) Write(p []byte) (int, error) {
	if len(p) > r.n {
		return 0, errFull
	}
	r.n -= len(p)
	return len(p), nil
}

// A layer of several images is decoded once, and compared with each config.
func TestEveryDiffIDCounts(t *testing.T) {
	src := newRegistry()
	raw := randomTar(1, 1000)
	l := src.layer(ociZstd, raw)
	other := l
	other.diffID = digest.SHA512.FromBytes(raw)
	good, good512 := src.resolve(t, src.image("amd64", l), image.Platforms{}), src.resolve(t, src.image("amd64", other), image.Platforms{})
	sink := newBlobs(t)
	if _, err := Images(context.Background(), []image.Image{good, good512}, Gzip, src.open, sink, Options{}); err != nil || len(sink.order) != 1 {
		t.Errorf("%d blobs, %v", len(sink.order), err)
	}
	for _, id := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")} {
		other.diffID = id
		bad := src.resolve(t, src.image("amd64", other), image.Platforms{})
		if _, err := Images(context.Background(), []image.Image{good, bad}, Gzip, src.open, newBlobs(t), Options{}); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), id.String()) {
			t.Errorf("%s is taken: %v", id, err)
		}
	}
}

func TestCancel(t *testing.T) {
	src := newRegistry()
	img := src.resolve(t, src.image("amd64", src.layer(ociZstd, randomTar(1, 4<<20))), image.Platforms{})
	ctx, cancel := context.WithCancel(context.Background())
	open := func(ctx context.Context, d image.Descriptor) (io.ReadCloser, error) {
		defer cancel()
		return src.open(ctx, d)
	}
	if _, err := Images(ctx, []image.Image{img}, Gzip, open, newBlobs(t), Options{}); !errors.Is(err, context.Canceled) || errors.Is(err, image.ErrVerification) {
		t.Errorf("the error is %v", err)
	}
}

// An archive takes them, and is the one that the derived images have.
func TestIntoArchive(t *testing.T) {
	src := newRegistry()
	raw := randomTar(1, 2<<20)
	a := src.resolve(t, src.image("amd64", src.layer(ociZstd, raw), src.layer(ociGzip, randomTar(2, 1000))), image.Platforms{})
	b := src.resolve(t, src.image("amd64", src.layer(ociTar, raw), src.layer(ociGzip, randomTar(2, 1000))), image.Platforms{})
	f, err := os.Create(filepath.Join(t.TempDir(), "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := archive.NewAppend(f)
	images, err := Images(context.Background(), []image.Image{a, b}, Gzip, src.open, out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Finish(images...); err != nil {
		t.Fatal(err)
	}
	sink := newBlobs(t)
	if _, err := Images(context.Background(), []image.Image{a, b}, Gzip, src.open, sink, Options{}); err != nil {
		t.Fatal(err)
	}
	l, err := archive.NewLayout(images...)
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	s := archive.NewStream(&stream, l)
	for _, d := range l.Blobs() {
		if err := s.Blob(bytes.NewReader(sink.bytes[d.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files(t, &stream), files(t, f)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if images[0].Manifests[0].Layers[0].Digest != images[1].Manifests[0].Layers[0].Digest {
		t.Error("the same tar became two layers")
	}
}

func files(t *testing.T, r io.Reader) map[string]digest.Digest {
	t.Helper()
	if f, ok := r.(*os.File); ok {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]digest.Digest{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if all[h.Name] != "" {
			t.Errorf("%s is there twice", h.Name)
		}
		all[h.Name] = digest.FromBytes(b)
	}
}

// A layer that is left out is not read, and its descriptor stays as it is.
func TestForeignLayerIsLeftOut(t *testing.T) {
	src := newRegistry()
	foreign, own := src.layer("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", randomTar(1, 1000)), src.layer(ociZstd, randomTar(2, 1000))
	foreign.URLs = []string{"https://files.example/layer?a=1&b=2"}
	delete(src.blobs, foreign.Digest)
	img, left := image.WithoutForeign(src.resolve(t, src.image("amd64", foreign, own), image.Platforms{}))
	if plan := Plan(img, Gzip); len(left) != 1 || len(plan) != 1 || plan[0].Digest != own.Digest {
		t.Errorf("Plan has %v", plan)
	}
	sink := newBlobs(t)
	got, err := Images(context.Background(), []image.Image{img}, Gzip, src.open, sink, Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := got[0].Manifests[0]
	if diff := cmp.Diff(foreign.Descriptor, m.Layers[0]); diff != "" {
		t.Errorf("the descriptor (-want +got):\n%s", diff)
	}
	if len(sink.order) != 1 || m.Layers[1].Digest != sink.order[0] || len(got[0].Blobs()) != 1 {
		t.Errorf("wrote %v, the image has %v", sink.order, got[0].Blobs())
	}

	// Without any other layer nothing changes.
	img, _ = image.WithoutForeign(src.resolve(t, src.image("amd64", foreign), image.Platforms{}))
	if got, err := Images(context.Background(), []image.Image{img}, None, src.open, sink, Options{}); err != nil || got[0].Root().Digest != img.Root().Digest {
		t.Errorf("alone: %v", err)
	}
}
