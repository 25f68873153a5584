package davit_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// Manifest, Config and Digest tell the same of an image in a registry and on
// disk.
func TestDocuments(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	host := image.DefaultPlatform()
	index := server.PushIndex("app", "v1", registrytest.Index{Images: []registrytest.Image{
		{Platform: host}, {Platform: image.Platform{OS: "linux", Architecture: "s390x"}},
	}})
	name := server.Host() + "/app:v1"
	dir := t.TempDir()
	places := map[string]string{name: name}
	for format, file := range map[davit.Format]string{davit.Archive: "x.tar", davit.OCI: "layout", davit.Components: "parts"} {
		path := filepath.Join(dir, file)
		_, err := davit.Pull(t.Context(), name, davit.PullOptions{Platforms: []string{"all"}, Format: format, Output: path})
		if err != nil {
			t.Fatal(err)
		}
		places[path] = name
		if format == davit.Components {
			places[path] = path // has no name
		}
	}
	for place, called := range places {
		m, err := davit.Manifest(t.Context(), place, davit.LookOptions{})
		if err != nil || m.Reference != called || string(m.Bytes) != string(index.Bytes) || m.Digest != index.Index.Digest {
			t.Errorf("%s: %s %s, %v", place, m.Reference, m.Bytes, err)
		}
		d, err := davit.Digest(t.Context(), place, davit.LookOptions{})
		if diff := cmp.Diff(m.Digest, d.Digest); diff != "" || err != nil || d.Reference != called || d.Size != m.Size || d.MediaType != m.MediaType {
			t.Errorf("%s: %+v, %v", place, d, err)
		}
		for i, platform := range []string{"", "linux/s390x"} {
			opts := davit.LookOptions{Platform: platform}
			c, err := davit.Config(t.Context(), place, opts)
			if err != nil || c.Reference != called || string(c.Bytes) != string(index.Images[i].ConfigBytes) {
				t.Errorf("%s %s: %s %s, %v", place, platform, c.Reference, c.Bytes, err)
			}
			if platform == "" {
				continue
			}
			m, err := davit.Manifest(t.Context(), place, opts)
			d, digestErr := davit.Digest(t.Context(), place, opts)
			if want := index.Images[i].Manifest.Digest; m.Digest != want || d.Digest != want || err != nil || digestErr != nil {
				t.Errorf("%s %s: %s %s, want %s; %v, %v", place, platform, m.Digest, d.Digest, want, err, digestErr)
			}
		}
		if _, err := davit.Manifest(t.Context(), place, davit.LookOptions{Platform: "linux/riscv64"}); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("%s: a platform that is not there: %v", place, err)
		}
	}
}

// A document that davit does not read is given with a warning, where no
// platform of it is wanted.
func TestUnknownDocument(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	raw := `{"schemaVersion":1,"signatures":[]}`
	server.PushRaw("old", "v1", image.MediaTypeDockerSchema1JWS, []byte(raw))
	warned := 0
	opts := davit.LookOptions{Events: func(e image.Event) {
		if e.Kind == image.EventWarning {
			warned++
		}
	}}
	m, err := davit.Manifest(t.Context(), server.Host()+"/old:v1", opts)
	if err != nil || string(m.Bytes) != raw || m.MediaType != image.MediaTypeDockerSchema1JWS || warned != 1 {
		t.Errorf("%+v, %v, %d warnings", m, err, warned)
	}
	opts.Platform = "linux/amd64"
	if _, err := davit.Manifest(t.Context(), server.Host()+"/old:v1", opts); !errors.Is(err, image.ErrSchema1) {
		t.Errorf("with a platform: %v", err)
	}
}
