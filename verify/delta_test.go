package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/verify"
)

// delta is an image of which a list of digests, called base, has the first layer.
func delta(t *testing.T, opts davit.PullOptions) (path string, p registrytest.Pushed) {
	t.Helper()
	p = registrytest.Build(twoLayers())
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, []byte(p.Layers[0].Digest.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	opts.Since = []string{base}
	return pulled(t, twoLayers(), opts)
}

func TestDelta(t *testing.T) {
	for _, format := range []davit.Format{davit.Archive, davit.OCI} {
		path, p := delta(t, davit.PullOptions{Format: format})
		r := check(t, path)
		if diff := cmp.Diff([]verify.Need{{Base: "base", Blobs: 1, Bytes: p.Layers[0].Size}}, r.Delta); diff != "" || !r.OK() || len(r.Notes) > 0 {
			t.Errorf("%s: %v, notes %q, delta (-want +got):\n%s", format, r.Problems, r.Notes, diff)
		}
		if r.Blobs != 3 || len(r.Images) != 1 {
			t.Errorf("%s: %d blobs of %v", format, r.Blobs, r.Images)
		}
		why := fmt.Sprintf("it is a delta: %s is expected in base", p.Layers[0].Digest)
		for _, l := range r.Loaders {
			if l.Takes || l.Why != why && format == davit.Archive {
				t.Errorf("%s: %s takes it: %t, %s", format, l.Name, l.Takes, l.Why)
			}
		}
	}
}

// What a delta does not say is absent, must be there.
func TestDeltaFaults(t *testing.T) {
	path, p := delta(t, davit.PullOptions{})
	kept := p.Layers[1].Digest
	for _, tt := range []struct {
		name   string
		change func(all []member) []member
		want   []want
	}{
		{"another layer is missing", without(t, blobName(kept)), []want{{verify.Missing, kept.String(), "the layer"}}},
		{"the config is missing", without(t, blobName(p.Config.Digest)), []want{{verify.Missing, p.Config.Digest.String(), "the config"}}},
		{"another one is expected", body(t, "index.json", replace(t, p.Layers[0].Digest.String(), p.Config.Digest.String())),
			[]want{{verify.Missing, p.Layers[0].Digest.String(), "the layer"}}},
		{"the annotation is none", body(t, "index.json", replace(t, `[{\"base`, `[[{\"base`)),
			[]want{{verify.Structure, "index.json", image.AnnotationDelta}, {verify.Missing, p.Layers[0].Digest.String(), "the layer"}}},
		{"a changed layer", body(t, blobName(kept), flip(30)), []want{{verify.Digest, kept.String(), "another digest"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := filepath.Join(t.TempDir(), "changed.tar")
			write(t, changed, tarOf(t, tt.change(readTar(t, path))))
			wantProblems(t, check(t, changed), tt.want...)
		})
	}
}
