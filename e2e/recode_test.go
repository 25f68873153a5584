package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestLayers gives the image of zstd to a Docker that knows no zstd, and to
// others, with its layers re-encoded.
func TestLayers(t *testing.T) {
	enabled(t)
	x := zstdImage(t)
	r := startRegistry(t)
	r.push(t, "davit/zstd", "1.0", x.index)
	name := r.host + "/davit/zstd:1.0"
	d := startClassicDocker(t)
	as := filepath.Join(workDir(t), "as-it-is.tar")
	runDavit(t, "pull", name, "-o", as).exits(t, 0)
	if said, _, err := output(d.command("load", "--input", as)); err == nil {
		t.Errorf("this Docker loads zstd, so that it shows nothing: %s", said)
	}
	for _, c := range []struct{ layers, mediaType string }{
		{"gzip", ocispec.MediaTypeImageLayerGzip},
		{"none", ocispec.MediaTypeImageLayer},
	} {
		t.Run(c.layers, func(t *testing.T) {
			dir := workDir(t)
			path := filepath.Join(dir, "image.tar")
			tag := r.host + "/davit/" + c.layers + ":1" // one that this Docker has not
			pulled := runDavit(t, "pull", name, "--layers", c.layers, "--tag", tag, "--json", "-o", path)
			pulled.exits(t, 0)
			var result struct {
				Manifest digest.Digest `json:"manifest"`
				ImageID  digest.Digest `json:"image_id"`
			}
			if err := json.Unmarshal([]byte(pulled.stdout), &result); err != nil {
				t.Fatalf("davit pull --json printed %q: %v", pulled.stdout, err)
			}
			if result.ImageID != x.own.config.Digest || result.Manifest == x.own.manifest.Digest {
				t.Errorf("written was %+v of the config %s, the manifest %s", result, x.own.config.Digest, x.own.manifest.Digest)
			}
			pulled.says(t, "manifest", "digest", result.Manifest.String())
			loads(t, d, archive{path: path, image: x, name: tag}, tag, x.own.config.Digest.String())
			run(t, d.command("rmi", "--force", tag)) // so that the next one brings all its layers

			layout := filepath.Join(dir, "layout")
			runDavit(t, "pull", name, "--layers", c.layers, "-f", "oci", "-o", layout).exits(t, 0)
			l := readLayout(t, layout)
			if got := l.roots(t)[name]; got != result.Manifest {
				t.Errorf("the layout has the manifest %s, the archive %s", got, result.Manifest)
			}
			copied := skopeoCopy(t, l.source("1.0"))
			if copied.digest != result.Manifest || copied.manifest.Config.Digest != x.own.config.Digest {
				t.Errorf("skopeo copied the manifest %s with the config %s", copied.digest, copied.manifest.Config.Digest)
			}
			var layers []digest.Digest
			for _, layer := range copied.manifest.Layers {
				if layer.MediaType != c.mediaType {
					t.Errorf("layer %s is a %s, want a %s", layer.Digest, layer.MediaType, c.mediaType)
				}
				layers = append(layers, layer.Digest)
			}
			if got := umociStat(t, layout, "1.0"); !slices.Equal(got, layers) {
				t.Errorf("umoci sees the layers %s, want %s", got, layers)
			}
		})
	}
}
