package davit_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// expected tells where a delta expects the layers of an image.
func expected(t *testing.T, path string, p registrytest.Pushed) []string {
	t.Helper()
	r, err := archive.Open(t.Context(), path, archive.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var bases []string
	for _, layer := range p.Layers {
		base, ok := r.Expected(layer.Digest)
		if _, err := r.BlobSize(t.Context(), layer.Digest); (err == nil) == ok {
			t.Errorf("layer %s is expected: %t, %v", layer.Digest, ok, err)
		}
		bases = append(bases, base)
	}
	return bases
}

// Each kind of base counts, the first one that has a layer.
func TestSince(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	amd := image.Platform{OS: "linux", Architecture: "amd64"}
	server.PushIndex("app", "may", registrytest.Index{Images: []registrytest.Image{month(0, amd), {Platform: image.Platform{OS: "linux", Architecture: "arm64"}, Layers: []registrytest.Layer{registrytest.RandomLayer(7, 7000)}}}})
	app := month(1, amd)
	app.Layers = append(app.Layers, registrytest.RandomLayer(7, 7000))
	june := server.Push("app", "june", app)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	opts := davit.PullOptions{Platforms: []string{"linux/amd64"}}
	may := pullTo(t, in("may.tar"), opts, server.Host()+"/app:may")
	write := func(name, content string) string {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		return in(name)
	}
	first, last := june.Layers[0].Digest, june.Layers[3].Digest
	list := write("list", "# what they have\n\n  "+first.String()+"  \n")
	named := write("named", "example.com/app:v1@"+first.String()+" v1\n"+server.Host()+"/app@"+last.String())
	sums := write("sums", fmt.Sprintf("%s  blobs/sha256/%s\n%s *%s\n", first.Encoded(), first.Encoded(), last.Encoded(), last.Encoded()))
	registry := server.Host() + "/app:may"
	for name, tt := range map[string]struct {
		since []string
		want  []string
	}{
		"an archive":          {[]string{may}, []string{"may.tar", "", "may.tar", ""}},
		"a list":              {[]string{list}, []string{"list", "", "", ""}},
		"a list of names":     {[]string{named}, []string{"named", "", "", "named"}},
		"a list of checksums": {[]string{sums}, []string{"sums", "", "", "sums"}},
		"a registry's image":  {[]string{registry}, []string{registry, "", registry, registry}}, // of all platforms
		"several":             {[]string{list, may, registry}, []string{"list", "", "may.tar", registry}},
		"skopeo's name":       {[]string{"oci-archive:" + may}, []string{"may.tar", "", "may.tar", ""}},
		"the image itself":    {[]string{server.Host() + "/app@" + june.Manifest.Digest.String()}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server.ResetRecords()
			opts := opts
			opts.Since, opts.Output = tt.since, filepath.Join(t.TempDir(), "june.tar")
			r, err := davit.Pull(t.Context(), server.Host()+"/app:june", opts)
			if err != nil {
				t.Fatal(err)
			}
			got := expected(t, opts.Output, june)
			if tt.want == nil {
				for range june.Layers {
					tt.want = append(tt.want, tt.since[0])
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("bases (-want +got):\n%s", diff)
			}
			var left, fetched int64
			for i, layer := range june.Layers {
				if got[i] != "" {
					left += layer.Size
				} else {
					fetched += layer.Size
				}
			}
			if got := server.Stats().BlobBytes - june.Config.Size; got != fetched {
				t.Errorf("%d bytes of blobs were sent, want %d", got, fetched)
			}
			if r.LeftOut != left || r.Fetched != fetched {
				t.Errorf("%d bytes are left out and %d fetched, want %d and %d", r.LeftOut, r.Fetched, left, fetched)
			}
		})
	}
}

// Bases that are none end the pull before anything is fetched.
func TestSinceFaults(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	server.Push("app", "june", month(1, image.Platform{OS: "linux", Architecture: "amd64"}))
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	june := pullTo(t, filepath.Join(dir, "june.tar"), davit.PullOptions{Platforms: []string{"linux/amd64"}}, server.Host()+"/app:june")
	whole, err := os.ReadFile(june)
	if err != nil {
		t.Fatal(err)
	}
	for want, since := range map[string]string{
		"no such file":              filepath.Join(dir, "gone.tar"),
		"line 2 of the list has no": write("bad", digest.FromString("a").String()+"\nsha256:../../etc\n"),
		"lists no digest":           write("empty", "# nothing\n"),
		"too long":                  write("long", strings.Repeat("x", 100_000)),
		"manifest unknown":          server.Host() + "/app:gone",
		"without an image":          june + ":june",
		"cut off":                   write("cut.tar", string(whole[:len(whole)/2])),
		"it holds no image":         write("other.tar", string(make([]byte, 2048))),
	} {
		opts := davit.PullOptions{Platforms: []string{"linux/amd64"}, Output: filepath.Join(dir, "out.tar"), Since: []string{since}}
		if _, err := davit.Pull(t.Context(), server.Host()+"/app:june", opts); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "since "+since) {
			t.Errorf("%s: %v, want %s", filepath.Base(since), err, want)
		}
	}
	for name, opts := range map[string]davit.PullOptions{
		"rootfs":     {Format: davit.Rootfs, Output: "x.tar"},
		"files":      {Format: davit.Files},
		"components": {Format: davit.Components},
		"layers":     {Layers: davit.Gzip},
	} {
		opts.Since = []string{june}
		if err := opts.Validate(1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	opts := davit.PullOptions{Platforms: []string{"linux/amd64"}, Since: []string{june}, Output: june}
	if _, err := davit.Pull(t.Context(), server.Host()+"/app:june", opts); err == nil || !strings.Contains(err.Error(), "another output") {
		t.Errorf("the base as output: %v", err)
	}
	if now, err := os.ReadFile(june); err != nil || !bytes.Equal(whole, now) {
		t.Errorf("the base changed: %v", err)
	}
}
