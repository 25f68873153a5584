package verify_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/verify"
)

func TestArchiveIsRight(t *testing.T) {
	path, p := pulled(t, twoLayers(), davit.PullOptions{})
	r := check(t, path)
	want := verify.Report{
		Path: path, Format: verify.Archive,
		Images: []verify.Image{{Name: "example.com/team/app:v1", Digest: p.Manifest.Digest, ID: p.Config.Digest, Platforms: []string{"linux/amd64"}}},
		Blobs:  4,
		Bytes:  p.Size() + p.Manifest.Size, Problems: []verify.Problem{}, Notes: []string{},
		Loaders: []verify.Loader{{Name: "docker", Takes: true}, {Name: "containerd", Takes: true}, {Name: "podman", Takes: true}},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestArchiveFaults has one fault each in an archive that is right without it,
// as the test above shows.
func TestArchiveFaults(t *testing.T) {
	path, p := pulled(t, twoLayers(), davit.PullOptions{})
	layer := p.Layers[1].Digest
	missing := digest.FromString("nothing")
	for _, tt := range []struct {
		name   string
		change func(all []member) []member
		wants  []want
	}{
		{"a flipped byte in a layer", body(t, blobName(layer), flip(30)),
			[]want{{verify.Digest, layer.String(), "another digest"}}},
		{"a flipped byte in a layer's gzip header", body(t, blobName(layer), flip(4)),
			[]want{{verify.Digest, layer.String(), "another digest"}}},
		{"a same-size garbage layer", body(t, blobName(layer), func(b []byte) []byte { return registrytest.RandomBytes(1, len(b)) }),
			[]want{{verify.Digest, layer.String(), "another digest"}}},
		{"a shorter layer", body(t, blobName(layer), func(b []byte) []byte { return b[:len(b)-1] }),
			[]want{{verify.Size, layer.String(), fmt.Sprintf("it has %d bytes, its descriptor says %d", p.Layers[1].Size-1, p.Layers[1].Size)},
				{verify.Digest, layer.String(), "another digest"}}},
		{"a flipped byte in the config", body(t, blobName(p.Config.Digest), flip(2)),
			[]want{{verify.Digest, p.Config.Digest.String(), "another digest"}}},
		{"a flipped byte in the manifest", body(t, blobName(p.Manifest.Digest), flip(2)),
			[]want{{verify.Digest, p.Manifest.Digest.String(), "another digest"}}},
		{"a missing layer", without(t, blobName(layer)),
			[]want{{verify.Missing, layer.String(), "the layer"}}},
		{"a missing config", without(t, blobName(p.Config.Digest)),
			[]want{{verify.Missing, p.Config.Digest.String(), "the config"}}},
		{"a missing manifest", without(t, blobName(p.Manifest.Digest)),
			[]want{{verify.Missing, p.Manifest.Digest.String(), "the manifest"}}},
		{"a missing oci-layout", without(t, "oci-layout"),
			[]want{{verify.Missing, "oci-layout", "not oci-layout"}}},
		{"a missing index.json", without(t, "index.json"),
			[]want{{verify.Missing, "index.json", "not the index.json"}}},
		{"an image layout of another version", body(t, "oci-layout", replace(t, "1.0.0", "2.0.0")),
			[]want{{verify.Structure, "oci-layout", `"2.0.0"`}}},
		{"an index.json that is none", body(t, "index.json", replace(t, `"manifests"`, `"manifests":7,"manifests"`)),
			[]want{{verify.Structure, "index.json", "twice"}}},
		{"a manifest.json that is none", body(t, "manifest.json", func(b []byte) []byte { return b[1:] }),
			[]want{{verify.Structure, "manifest.json", "JSON"}}},
		{"a wrong size in index.json", body(t, "index.json", replace(t, fmt.Sprintf(`"size":%d`, p.Manifest.Size), `"size":7`)),
			[]want{{verify.Size, p.Manifest.Digest.String(), "its descriptor says 7"}}},
		{"an unknown layer in manifest.json", body(t, "manifest.json", replace(t, layer.Encoded(), missing.Encoded())),
			[]want{{verify.Missing, missing.String(), "which manifest.json names"}}},
		{"a name that docker load refuses", body(t, "manifest.json", replace(t, "app:v1", "app:"+layer.String())),
			[]want{{verify.Load, "manifest.json", "docker load: it refuses the name"}}},
		{"a name without a tag", body(t, "manifest.json", replace(t, "app:v1", "app")),
			[]want{{verify.Load, "manifest.json", "it has no tag"}}},
		{"a blob that nobody names, and is not right", func(all []member) []member { return append(all, file(blobName(missing), "something")) },
			[]want{{verify.Digest, missing.String(), "another digest"}}},
		{"two manifest.json", func(all []member) []member { return append(all, file("manifest.json", "[]")) },
			[]want{{verify.Name, "manifest.json", "more than once"}}},
		{"an entry that leads out", func(all []member) []member { return append(all, file("../evil", "x")) },
			[]want{{verify.Name, "../evil", "leads out of the archive"}}},
		{"several faults", func(all []member) []member {
			return without(t, blobName(p.Config.Digest))(body(t, blobName(layer), flip(30))(all))
		}, []want{{verify.Missing, p.Config.Digest.String(), "is not there"}, {verify.Digest, layer.String(), "another digest"}}},

		{"a blob that nobody names, and is right", func(all []member) []member {
			return append(all, file(blobName(digest.FromString("spare")), "spare"))
		}, nil},
		{"a blob twice", func(all []member) []member { return append(all, all[len(all)-1]) }, nil},
		{"other files", func(all []member) []member { return append(all, file("README", "hello"), file("a/b.json", "{")) }, nil},
		{"other names", body(t, "manifest.json", replace(t, "app:v1", "other:v2")), nil},
		{"no names", func(all []member) []member {
			return body(t, "manifest.json", replace(t, `["example.com/team/app:v1"]`, "null"))(body(t, "index.json", replace(t, `"annotations"`, `"nothing"`))(all))
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := t.TempDir() + "/image.tar"
			write(t, changed, tarOf(t, tt.change(readTar(t, path))))
			wantProblems(t, check(t, changed), tt.wants...)
		})
	}
}

func TestProblemTellsWhoNeedsIt(t *testing.T) {
	path, p := pulled(t, twoLayers(), davit.PullOptions{})
	edit(t, path, body(t, blobName(p.Layers[0].Digest), flip(30)))
	r := check(t, path)
	if len(r.Problems) != 1 || r.Problems[0].For != "example.com/team/app:v1" {
		t.Errorf("problems: %+v", r.Problems)
	}
	wantTakes(t, r, false, false, false)
}

// ctr reads oci-layout and manifest.json beside index.json, and refuses what is
// wrong there; podman does not mind.
func TestContainerdReadsAll(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"oci-layout":    replace(t, "1.0.0", "2.0.0"),
		"manifest.json": func([]byte) []byte { return []byte("[{") },
	} {
		path, _ := pulled(t, twoLayers(), davit.PullOptions{})
		edit(t, path, body(t, name, change))
		wantTakes(t, check(t, path), name != "manifest.json", false, true)
	}
}

func TestTruncatedArchive(t *testing.T) {
	path, p := pulled(t, twoLayers(), davit.PullOptions{})
	whole := read(t, path)
	last := blobName(p.Layers[1].Digest)
	body := bytes.LastIndex(whole, []byte(last)) + 512
	for _, tt := range []struct {
		name string
		at   int
		want []want
	}{
		{"within a blob", body + 10, []want{{verify.Truncated, last, "cut off"}}},
		{"within a header", body - 200, []want{{verify.Truncated, "image", "within a header"}, {verify.Missing, p.Layers[1].Digest.String(), "not there"}}},
		{"before its end", len(whole) - 1024, []want{{verify.Truncated, "image", "has no end"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write(t, path, whole[:tt.at])
			wantProblems(t, check(t, path), tt.want...)
		})
	}
}

func TestCompressedArchive(t *testing.T) {
	path, p := pulled(t, twoLayers(), davit.PullOptions{})
	whole := read(t, path)
	var zipped, packed bytes.Buffer
	z := gzip.NewWriter(&zipped)
	zs, _ := zstd.NewWriter(&packed)
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{z, zs} {
		if _, err := w.Write(whole); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	temp := t.TempDir()
	opts := verify.Options{TempDir: temp}
	for _, b := range [][]byte{zipped.Bytes(), packed.Bytes()} {
		write(t, path, b)
		r, err := verify.Check(t.Context(), path, opts)
		if err != nil {
			t.Fatal(err)
		}
		wantProblems(t, r)
		wantTakes(t, r, true, false, true)
		if len(r.Images) != 1 || r.Images[0].Digest != p.Manifest.Digest {
			t.Errorf("images: %+v", r.Images)
		}
	}
	write(t, path, zipped.Bytes()[:zipped.Len()-100])
	r, err := verify.Check(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) == 0 || r.Problems[0].What != verify.Truncated || !strings.Contains(r.Problems[0].Text, "compressed archive is cut off") {
		t.Errorf("cut off: %+v", r.Problems)
	}
	opts.MaxDecoded = int64(len(whole)) - 1
	write(t, path, zipped.Bytes())
	if r, err = verify.Check(t.Context(), path, opts); err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Text, "decompresses to more than") {
		t.Errorf("limit: %+v", r.Problems)
	}
	if left := list(t, temp); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

func TestLayers(t *testing.T) {
	good := twoLayers()
	pushed := registrytest.Build(good)
	config := func(ids ...digest.Digest) []byte {
		b, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	wrong := digest.FromString("wrong")
	ids := pushed.DiffIDs
	noTar := registrytest.Layer{Tar: bytes.Repeat([]byte("no tar at all"), 100)}
	for _, tt := range []struct {
		name  string
		img   func() registrytest.Image
		wants func(p registrytest.Pushed) []want
	}{
		{"a wrong diffID", func() registrytest.Image {
			return registrytest.Image{Layers: good.Layers, RawConfig: config(ids[0], wrong, ids[2])}
		},
			func(p registrytest.Pushed) []want {
				return []want{{verify.DiffID, p.Layers[1].Digest.String(), "the layer's tar has the digest " + ids[1].String() + ", the config says " + wrong.String()}}
			}},
		{"the right diffIDs", func() registrytest.Image { return registrytest.Image{Layers: good.Layers, RawConfig: config(ids...)} }, nil},
		{"diffIDs by sha512", func() registrytest.Image {
			in := tarOfLayer(t, pushed.LayerBytes(0))
			return registrytest.Image{Layers: good.Layers[:1], RawConfig: config(digest.SHA512.FromBytes(in))}
		}, nil},
		{"a layer that is no tar", func() registrytest.Image { return registrytest.Image{Layers: []registrytest.Layer{noTar}} },
			func(p registrytest.Pushed) []want {
				return []want{{verify.Layer, p.Layers[0].Digest.String(), "cannot be decoded"}}
			}},
		{"zstd and plain layers", func() registrytest.Image {
			img := twoLayers()
			img.Layers[0].Compression, img.Layers[1].Compression = registrytest.Zstd, registrytest.None
			return img
		}, nil},
		{"no layers", func() registrytest.Image { return registrytest.Image{} }, nil},
		{"sha512", func() registrytest.Image { return registrytest.Image{Layers: good.Layers, Algorithm: digest.SHA512} }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, p := pulled(t, tt.img(), davit.PullOptions{})
			var wants []want
			if tt.wants != nil {
				wants = tt.wants(p)
			}
			r := check(t, path)
			wantProblems(t, r, wants...)
			if tt.name == "sha512" {
				wantTakes(t, r, true, false, true)
			}
			if tt.name == "zstd and plain layers" && r.Loaders[0].Why != "layers in zstd need Docker 23 or newer" {
				t.Errorf("docker: %+v", r.Loaders[0])
			}
		})
	}
}

func TestBomb(t *testing.T) {
	zeros := registrytest.Layer{Files: []registrytest.File{{Body: make([]byte, 4<<20)}}}
	zeros.Files[0].Name = "zeros"
	path, _ := pulled(t, registrytest.Image{Layers: []registrytest.Layer{zeros}}, davit.PullOptions{})
	wantProblems(t, check(t, path))
	r, err := verify.Check(t.Context(), path, verify.Options{MaxDecoded: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	wantProblems(t, r, want{verify.Layer, "image", "more than 4194304 bytes"})
}

func TestPlatforms(t *testing.T) {
	index := registrytest.Index{Attestations: true, Images: []registrytest.Image{
		{Platform: image.Platform{OS: "linux", Architecture: "amd64"}, Layers: twoLayers().Layers},
		{Platform: image.Platform{OS: "linux", Architecture: "arm64"}, Layers: twoLayers().Layers[:1]},
	}}
	t.Run("all", func(t *testing.T) {
		path, p := pulledIndex(t, index, davit.PullOptions{Platforms: []string{"all"}})
		r := check(t, path)
		wantProblems(t, r)
		wantTakes(t, r, true, true, true)
		if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, r.Images[0].Platforms); diff != "" {
			t.Errorf("platforms (-want +got):\n%s", diff)
		}
		statement := p.Attestations[0].Layers[0].Digest
		edit(t, path, body(t, blobName(statement), flip(2)))
		wantProblems(t, check(t, path), want{verify.Digest, statement.String(), "another digest"})
		edit(t, path, without(t, blobName(statement)))
		wantProblems(t, check(t, path), want{verify.Missing, statement.String(), "is not there"})
	})
	t.Run("two of three", func(t *testing.T) {
		path, p := pulledIndex(t, index, davit.PullOptions{Platforms: []string{"linux/amd64", "linux/arm64"}})
		r := check(t, path)
		wantProblems(t, r)
		wantNote(t, r, "are not there, which is allowed: an attestation")
		for _, img := range p.Images {
			edit(t, path, without(t, blobName(img.Manifest.Digest)))
		}
		wantProblems(t, check(t, path), want{verify.Missing, p.Index.Digest.String(), "none of an image is there"})
	})
}

// An image's platform is the one that inspect calls it by.
func TestPlatformOfConfig(t *testing.T) {
	for platform, want := range map[string]string{
		"":                          "linux",
		`"architecture":"riscv64",`: "linux/riscv64",
		`"os":"linux","architecture":"arm64","variant":"v8",`: "linux/arm64",
		`"os":"linux","architecture":"arm","variant":"v6",`:   "linux/arm/v6",
	} {
		path := filepath.Join(t.TempDir(), "x.tar")
		write(t, path, tarOf(t, []member{
			file("manifest.json", `[{"Config":"c.json","RepoTags":["example.com/app:v1"],"Layers":[]}]`),
			file("c.json", `{`+platform+`"rootfs":{"type":"layers","diff_ids":[]}}`),
		}))
		r := check(t, path)
		wantProblems(t, r)
		inspected, err := davit.Inspect(t.Context(), path, davit.InspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{want}, r.Images[0].Platforms); diff != "" || inspected.Platform != want {
			t.Errorf("{%s}: inspect says %q, verify (-want +got):\n%s", platform, inspected.Platform, diff)
		}
	}
}

func TestForeignLayer(t *testing.T) {
	layers := twoLayers().Layers[:2]
	layers[1].URLs = []string{"https://example.com/layer"}
	path, p := pulled(t, registrytest.Image{Layers: layers}, davit.PullOptions{NoForeign: true})
	r := check(t, path)
	wantProblems(t, r)
	wantNote(t, r, "the foreign layer "+p.Layers[1].Digest.String()+" is not there")
	path, _ = pulled(t, registrytest.Image{Layers: layers}, davit.PullOptions{})
	edit(t, path, body(t, blobName(p.Layers[1].Digest), flip(30)))
	wantProblems(t, check(t, path), want{verify.Digest, p.Layers[1].Digest.String(), "another digest"})
}

func TestManyProblems(t *testing.T) {
	var entries []string
	for i := range 150 {
		entries = append(entries, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":7}`, digest.FromString(fmt.Sprint(i))))
	}
	path := t.TempDir() + "/many.tar"
	write(t, path, tarOf(t, []member{
		file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`),
		file("index.json", `{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`),
	}))
	r := check(t, path)
	if len(r.Problems) != verify.MaxProblems || r.More != 50 || r.OK() {
		t.Errorf("%d problems and %d more", len(r.Problems), r.More)
	}
}

func TestHostileNames(t *testing.T) {
	path, _ := pulled(t, twoLayers(), davit.PullOptions{})
	edit(t, path, body(t, "manifest.json", replace(t, "app:v1", `app:\u001b[31m\n`+strings.Repeat("x", 1000))))
	r := check(t, path)
	text := r.Problems[0].Text + r.Problems[0].For
	if len(r.Problems) != 1 || strings.ContainsAny(text, "\x1b\n") || len(text) > 1000 {
		t.Errorf("problems: %q", r.Problems)
	}
}

func TestArtifact(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	config := s.AddBlob([]byte("{}"))
	config.MediaType = "application/vnd.cncf.helm.config.v1+json"
	chart := s.AddBlob([]byte("no tar, and nobody says that it is one"))
	chart.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{chart}})
	if err != nil {
		t.Fatal(err)
	}
	s.PushRaw("team/app", "v1", "application/vnd.oci.image.manifest.v1+json", raw)
	path := pull(t, s, davit.PullOptions{})
	r := check(t, path)
	wantProblems(t, r)
	wantTakes(t, r, false, true, true)
	edit(t, path, body(t, blobName(chart.Digest), flip(2)))
	wantProblems(t, check(t, path), want{verify.Digest, chart.Digest.String(), "another digest"})
}

// layoutOf is an image layout with these documents, of which the last is named
// by index.json as often as there are names.
func layoutOf(documents []string, mediaType string, names ...string) []member {
	var entries []string
	last := documents[len(documents)-1]
	for _, name := range names {
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":%q}}`,
			mediaType, digest.FromString(last), len(last), name))
	}
	all := []member{
		file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`),
		file("index.json", `{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`),
	}
	for _, d := range documents {
		all = append(all, file(blobName(digest.FromString(d)), d))
	}
	return all
}

func TestNestedIndexes(t *testing.T) {
	p := registrytest.Build(registrytest.Image{})
	path := t.TempDir() + "/nested.tar"
	for _, tt := range []struct {
		depth int
		wants []want
	}{{16, nil}, {17, []want{{verify.Structure, p.Manifest.Digest.String(), "stand in each other"}}}} {
		documents := []string{string(p.ConfigBytes), string(p.ManifestBytes)}
		mediaType := p.Manifest.MediaType
		for range tt.depth {
			last := documents[len(documents)-1]
			documents = append(documents, fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, mediaType, digest.FromString(last), len(last)))
			mediaType = "application/vnd.oci.image.index.v1+json"
		}
		write(t, path, tarOf(t, layoutOf(documents, mediaType, "v1")))
		wantProblems(t, check(t, path), tt.wants...)
	}
}

func TestArchiveWithoutManifestJSON(t *testing.T) {
	p := registrytest.Build(registrytest.Image{})
	path := t.TempDir() + "/layout.tar"
	all := []string{string(p.ConfigBytes), string(p.ManifestBytes)}
	write(t, path, tarOf(t, layoutOf(all, p.Manifest.MediaType, "v1")))
	r := check(t, path)
	wantProblems(t, r)
	wantTakes(t, r, false, true, true)

	write(t, path, tarOf(t, layoutOf(all, p.Manifest.MediaType, "v1", "v2")))
	r = check(t, path)
	wantProblems(t, r)
	wantTakes(t, r, false, true, false)

	p = registrytest.Build(registrytest.Image{Algorithm: digest.SHA512})
	members := layoutOf([]string{string(p.ConfigBytes), string(p.ManifestBytes)}, p.Manifest.MediaType, "v1")
	members[2].Name, members[3].Name = blobName(p.Config.Digest), blobName(p.Manifest.Digest)
	sum := digest.FromBytes(p.ManifestBytes).String()
	write(t, path, tarOf(t, body(t, "index.json", replace(t, sum, p.Manifest.Digest.String()))(members)))
	r = check(t, path)
	wantProblems(t, r, want{verify.Load, "layout.tar", "no loader takes the archive"})
	wantTakes(t, r, false, false, false)
}
