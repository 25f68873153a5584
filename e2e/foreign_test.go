package e2e

import (
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// TestForeignLayers has loaders take an image in whose lowest layer came from
// its URL, once nothing answers there any more; and the image without that
// layer, which only a loader that has it takes.
func TestForeignLayers(t *testing.T) {
	enabled(t)
	s, store := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	host := image.Platform{OS: "linux", Architecture: runtime.GOARCH}
	lower := registrytest.Layer{Files: []registrytest.File{registrytest.Text("lower", "lower\n")}}
	upper := registrytest.Layer{Files: []registrytest.File{registrytest.Text("upper", "upper\n")}}
	base := store.Push("base", "1", registrytest.Image{Platform: host, Docker: true, Layers: []registrytest.Layer{lower}})

	dir := workDir(t)
	pull := func(file, name string, args ...string) string {
		path := filepath.Join(dir, file)
		runDavit(t, append([]string{"pull", name, "--output", path}, args...)...).exits(t, 0)
		return path
	}
	only := pull("base.tar", store.Host()+"/base:1")
	var images []foreignImage
	for tag, mediaType := range map[string]string{
		"docker": image.MediaTypeDockerForeignLayer,
		"oci":    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	} {
		foreign := lower
		foreign.MediaType, foreign.Absent = mediaType, true
		foreign.URLs = []string{store.URL() + "/v2/base/blobs/" + base.Layers[0].Digest.String()}
		s.Push("app", tag, registrytest.Image{Platform: host, Docker: tag == "docker", Layers: []registrytest.Layer{foreign, upper}})
		name := s.Host() + "/app:" + tag
		images = append(images, foreignImage{name, pull(tag+".tar", name), pull(tag+"-without.tar", name, "--no-foreign")})
	}
	_ = store.Close() // the loaders have to do without it

	for engine, start := range map[string]func(testing.TB) loader{
		"classic Docker": func(t testing.TB) loader { return startClassicDocker(t) },
		"newest Docker":  func(t testing.TB) loader { return startNewestDocker(t) },
		"podman":         func(t testing.TB) loader { return newPodman(t) },
		"containerd":     func(t testing.TB) loader { return startContainerd(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			l := start(t)
			for _, x := range images {
				l.load(t, x.whole)
				if names := l.names(t); !slices.Contains(names, x.name) {
					t.Errorf("loaded as %q, want %s", names, x.name)
				}
			}
		})
	}
	t.Run("without", func(t *testing.T) {
		d := startClassicDocker(t)
		for _, x := range images {
			if said, _, err := output(d.command("load", "--input", x.without)); err == nil {
				t.Errorf("it took %s: %s", x.without, said)
			}
		}
		d.load(t, only)
		for _, x := range images {
			d.load(t, x.without)
			if names := d.names(t); !slices.Contains(names, x.name) {
				t.Errorf("loaded as %q, want %s", names, x.name)
			}
		}
	})
}

// foreignImage is an image with a foreign layer, in archives with it and
// without it.
type foreignImage struct{ name, whole, without string }
