package e2e

import (
	"archive/tar"
	"io"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
)

// helmChart is a chart as helm push makes it.
func helmChart(t testing.TB) *ociImage {
	t.Helper()
	l := makeLayer(t, gzipped, func(w io.Writer) error {
		const text = "apiVersion: v2\nname: hello\nversion: 0.1.0\n"
		tw := tar.NewWriter(w)
		if err := tw.WriteHeader(&tar.Header{Name: "hello/Chart.yaml", Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := io.WriteString(tw, text); err != nil {
			return err
		}
		return tw.Close()
	})
	l.descriptor.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	m := &ociImage{layers: []layer{l}}
	m.config, m.rawConfig = encode(t, "application/vnd.cncf.helm.config.v1+json",
		map[string]string{"apiVersion": "v2", "name": "hello", "version": "0.1.0"})
	m.manifest, m.raw = encode(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		Config:    m.config,
		Layers:    []ocispec.Descriptor{l.descriptor},
	})
	return m
}

// orasArtifact is what oras push makes of two files: an artifact type, and the
// empty config.
func orasArtifact(t testing.TB) *ociImage {
	t.Helper()
	file := func(title, mediaType, text string) layer {
		l := makeLayer(t, plain, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		l.descriptor.MediaType = mediaType
		l.descriptor.Annotations = map[string]string{ocispec.AnnotationTitle: title}
		return l
	}
	m := &ociImage{
		config:    ocispec.DescriptorEmptyJSON,
		rawConfig: ocispec.DescriptorEmptyJSON.Data,
		layers: []layer{
			file("readme.txt", "text/plain", "an artifact\n"),
			file("module.wasm", "application/wasm", "\x00asm\x01\x00\x00\x00"),
		},
	}
	m.manifest, m.raw = encode(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: "application/vnd.example.thing",
		Config:       m.config,
		Layers:       []ocispec.Descriptor{m.layers[0].descriptor, m.layers[1].descriptor},
	})
	return m
}

// TestArtifacts carries what is no container image.
func TestArtifacts(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	for _, a := range []struct {
		name, repository, tag string
		image                 *ociImage
		suffixes              []string // of the layers as components
	}{
		{"Helm chart", "charts/hello", "0.1.0", helmChart(t), []string{".tar.gz"}},
		{"ORAS artifact", "things/one", "1", orasArtifact(t), []string{".blob", ".blob"}},
	} {
		r.push(t, a.repository, a.tag, single(a.image))
		name := r.host + "/" + a.repository + ":" + a.tag
		t.Run(a.name, func(t *testing.T) {
			dir := filepath.Join(workDir(t), "layout")
			runDavit(t, "pull", name, "-f", "oci", "-o", dir).exits(t, 0)
			readLayout(t, dir)
			if got := readByORAS(t, dir, a.tag); got != a.image.manifest.Digest {
				t.Errorf("ORAS reads %s, want %s", got, a.image.manifest.Digest)
			}
			if c := skopeoCopy(t, "oci:"+dir+":"+a.tag); c.digest != a.image.manifest.Digest {
				t.Errorf("skopeo copied %s, want %s", c.digest, a.image.manifest.Digest)
			}

			parts := filepath.Join(workDir(t), "parts")
			runDavit(t, "pull", name, "-f", "components", "-o", parts).exits(t, 0)
			want := components{"image_manifest.json": "manifests/" + a.tag}
			want.add(a.image, a.suffixes...)
			want.equal(t, parts, r, a.repository)

			tarred := filepath.Join(workDir(t), "artifact.tar")
			archived := runDavit(t, "pull", name, "-o", tarred)
			archived.exits(t, 0)
			archived.says(t, "warning: ", "no container image")
			if c := skopeoCopy(t, "oci-archive:"+tarred); c.digest != a.image.manifest.Digest {
				t.Errorf("skopeo copied %s of the archive, want %s", c.digest, a.image.manifest.Digest)
			}

			for _, format := range []string{"rootfs", "files"} {
				out := filepath.Join(workDir(t), "out")
				refused := runDavit(t, "pull", name, "-f", format, "-o", out)
				refused.exits(t, 1)
				refused.says(t, "no container image and has no file system", a.image.config.MediaType)
				absent(t, out)
			}
		})
	}
}

// readByORAS has ORAS read an artifact in a layout, all of which it verifies.
func readByORAS(t *testing.T, dir, tag string) digest.Digest {
	t.Helper()
	store, err := oci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	root, err := store.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := content.Successors(t.Context(), store, root)
	if err != nil || len(parts) < 2 {
		t.Fatalf("ORAS finds %d parts: %v", len(parts), err)
	}
	for _, d := range parts {
		if _, err := content.FetchAll(t.Context(), store, d); err != nil {
			t.Errorf("ORAS does not read %s: %v", d.Digest, err)
		}
	}
	return root.Digest
}
