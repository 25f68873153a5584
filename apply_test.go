package davit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// month is an image of a month: all months share the layers of 200 and 100 kB,
// and each has one of its own.
func month(n uint64, platform image.Platform) registrytest.Image {
	seed := uint64(len(platform.Architecture)) // of those that differ
	return registrytest.Image{Platform: platform, Layers: []registrytest.Layer{
		registrytest.RandomLayer(seed, 200_000), registrytest.RandomLayer(100+n*10+seed, 20_000), registrytest.RandomLayer(50+seed, 100_000),
	}}
}

// months is a registry with the images of May and June, of one platform and of two.
func months(t *testing.T) *registrytest.Server {
	t.Helper()
	server := registrytest.Start(t, registrytest.Options{})
	amd, arm := image.Platform{OS: "linux", Architecture: "amd64"}, image.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	server.Push("other", "june", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(77, 1000)}})
	for n, tag := range []string{"may", "june"} {
		server.Push("app", tag, month(uint64(n), amd))
		server.Push("team/tool", tag, registrytest.Image{Layers: append(month(0, amd).Layers[:1], registrytest.RandomLayer(uint64(900+n), 3000))})
		server.PushIndex("multi", tag, registrytest.Index{Attestations: true, Images: []registrytest.Image{
			month(uint64(n), amd), month(uint64(n), arm), month(uint64(n), image.Platform{OS: "linux", Architecture: "s390x"}),
		}})
	}
	return server
}

// pullTo pulls images into a file or directory, and returns its path.
func pullTo(t *testing.T, path string, opts davit.PullOptions, names ...string) string {
	t.Helper()
	opts.Output = path
	if _, err := davit.PullAll(t.Context(), names, opts); err != nil {
		t.Fatal(err)
	}
	return path
}

// filesOf are the bytes of a file, or of all files of a directory.
func filesOf(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		rel, _ := filepath.Rel(path, name)
		all[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same compares two outputs, and says no more than which files differ.
func same(t *testing.T, want, got string) {
	t.Helper()
	a, b := filesOf(t, want), filesOf(t, got)
	for name := range a {
		if a[name] != b[name] {
			t.Errorf("%s of %s has %d bytes, want %d", name, filepath.Base(got), len(b[name]), len(a[name]))
		}
		delete(b, name)
	}
	for name := range b {
		t.Errorf("%s has %s besides", filepath.Base(got), name)
	}
}

// A delta joined with its base is what a full pull writes.
func TestApplyIsFullPull(t *testing.T) {
	server := months(t)
	at := func(names ...string) (all []string) {
		for _, name := range names {
			all = append(all, server.Host()+"/"+name)
		}
		return all
	}
	amd, armFirst := []string{"linux/amd64"}, []string{"linux/arm/v6", "linux/amd64"}
	digestOf := func(name, platform string) string {
		found, err := davit.Digest(t.Context(), server.Host()+"/"+name, davit.LookOptions{Platform: platform})
		if err != nil {
			t.Fatal(err)
		}
		return found.Digest.String()
	}
	for name, tt := range map[string]struct {
		may, june []string
		opts      davit.PullOptions
		leftOut   int64 // at least
	}{
		"one platform":        {at("app:may"), at("app:june"), davit.PullOptions{Platforms: amd}, 300_000},
		"several platforms":   {at("multi:may"), at("multi:june"), davit.PullOptions{Platforms: armFirst}, 600_000},
		"all platforms":       {at("multi:may"), at("multi:june"), davit.PullOptions{Platforms: []string{"all"}}, 600_000},
		"a trimmed index":     {at("multi:may"), at("multi:june"), davit.PullOptions{Platforms: armFirst, TrimIndex: true}, 600_000},
		"several images":      {at("app:may", "team/tool:may"), at("team/tool:june", "app:june"), davit.PullOptions{Platforms: amd}, 300_000},
		"another name":        {at("app:may"), at("app:june"), davit.PullOptions{Platforms: amd, Tag: "example.com/mine:v2"}, 300_000},
		"by digest":           {at("multi:may"), at("multi@" + digestOf("multi:june", "")), davit.PullOptions{Platforms: amd}, 300_000},
		"a variant's":         {at("multi:may"), at("multi:june"), davit.PullOptions{Platforms: armFirst[:1]}, 300_000},
		"of another image":    {at("multi:may"), at("team/tool:june"), davit.PullOptions{Platforms: amd}, 200_000},
		"nothing is new":      {at("app:june"), at("app:june"), davit.PullOptions{Platforms: amd}, 320_000},
		"nothing is the same": {at("app:may"), at("other:june"), davit.PullOptions{Platforms: amd}, 0},
	} {
		for _, format := range []davit.Format{davit.Archive, davit.OCI} {
			t.Run(fmt.Sprintf("%s, %s", name, format), func(t *testing.T) {
				dir := t.TempDir()
				opts := tt.opts
				opts.Format = format
				mayOpts := opts
				mayOpts.Tag = ""
				may := pullTo(t, filepath.Join(dir, "may"), mayOpts, tt.may...)
				full := pullTo(t, filepath.Join(dir, "full"), opts, tt.june...)
				opts.Output, opts.Since = filepath.Join(dir, "june"), []string{may}
				results, err := davit.PullAll(t.Context(), tt.june, opts)
				if err != nil {
					t.Fatal(err)
				}
				var left int64
				for _, r := range results {
					left += r.LeftOut
				}
				if left < tt.leftOut || tt.leftOut == 0 && left > 0 {
					t.Errorf("%d bytes are left out, want %d", left, tt.leftOut)
				}
				whole := filepath.Join(dir, "whole")
				applied, err := davit.Apply(t.Context(), []string{may, opts.Output}, davit.PullOptions{Format: format, Output: whole})
				if err != nil {
					t.Fatal(err)
				}
				same(t, full, whole)
				for i, r := range applied {
					// A layout sorts its images.
					if format == davit.Archive && (r.Manifest != results[i].Manifest || r.LeftOut != 0) {
						t.Errorf("applied: %+v, want the image of %+v", r, results[i])
					}
				}
			})
		}
	}
}

// A delta of another form gives the same archive, and so does a stream.
func TestApplyForms(t *testing.T) {
	server := months(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	amd := davit.PullOptions{Platforms: []string{"linux/amd64"}}
	oci, components := amd, amd
	oci.Format, components.Format = davit.OCI, davit.Components
	full := pullTo(t, in("full.tar"), amd, server.Host()+"/app:june")
	may := pullTo(t, in("may"), components, server.Host()+"/app:may")

	oci.Since = []string{may}
	june := pullTo(t, in("june"), oci, server.Host()+"/app:june")
	if _, err := davit.Apply(t.Context(), []string{may, june}, davit.PullOptions{Output: in("whole.tar")}); err != nil {
		t.Fatal(err)
	}
	same(t, full, in("whole.tar"))

	var delta, whole bytes.Buffer
	streamed := amd
	streamed.Since, streamed.Stream = []string{may}, &delta
	if _, err := davit.Pull(t.Context(), server.Host()+"/app:june", streamed); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("june.tar"), delta.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := davit.Apply(t.Context(), []string{may, in("june.tar")}, davit.PullOptions{Stream: &whole}); err != nil {
		t.Fatal(err)
	}
	if want, _ := os.ReadFile(full); !bytes.Equal(want, whole.Bytes()) {
		t.Errorf("the stream has %d bytes, want %d", whole.Len(), len(want))
	}
}

// A delta of a delta is joined with what that is joined with.
func TestApplyChain(t *testing.T) {
	server := months(t)
	server.Push("app", "july", month(2, image.Platform{OS: "linux", Architecture: "amd64"}))
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	opts := davit.PullOptions{Platforms: []string{"linux/amd64"}}
	full := pullTo(t, in("full.tar"), opts, server.Host()+"/app:july")
	may := pullTo(t, in("may.tar"), opts, server.Host()+"/app:may")
	opts.Since = []string{may}
	june := pullTo(t, in("june.tar"), opts, server.Host()+"/app:june")
	opts.Since = []string{june}
	july := pullTo(t, in("july.tar"), opts, server.Host()+"/app:july")
	if info, err := os.Stat(july); err != nil || info.Size() > 40_000 {
		t.Errorf("July's delta: %d bytes, %v", info.Size(), err)
	}
	if _, err := davit.Apply(t.Context(), []string{may, june, july}, davit.PullOptions{Output: in("whole.tar")}); err != nil {
		t.Fatal(err)
	}
	same(t, full, in("whole.tar"))
}

// What is missing is told, and nothing is written.
func TestApplyFaults(t *testing.T) {
	server := months(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	opts := davit.PullOptions{Platforms: []string{"linux/amd64"}}
	may := pullTo(t, in("may.tar"), opts, server.Host()+"/app:may")
	other := pullTo(t, in("other.tar"), opts, server.Host()+"/team/tool:may")
	opts.Since = []string{may}
	june := pullTo(t, in("june.tar"), opts, server.Host()+"/app:june")

	apply := func(files ...string) error {
		_, err := davit.Apply(t.Context(), files, davit.PullOptions{Output: in("whole.tar")})
		if _, statErr := os.Stat(in("whole.tar")); statErr == nil {
			t.Errorf("%v, and it is written", err)
		}
		return err
	}
	err := apply(other, june) // which has one of the two layers
	missing, ok := errors.AsType[*davit.MissingError](err)
	if !ok || !errors.Is(err, image.ErrNotFound) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"may.tar"}, missing.Bases()); diff != "" || len(missing.Blobs) != 1 {
		t.Errorf("%v\n%s", err, diff)
	}
	if want := fmt.Sprintf("not found, in none of the files: %s (expected in may.tar)", missing.Blobs[0].Digest); !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}

	// A layer of the base that was changed, and one that was cut.
	b, err := os.ReadFile(may)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(b, []byte("blobs/sha256/")) + 3000
	b[at] ^= 1
	damaged := in("damaged.tar")
	if err := os.WriteFile(damaged, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := apply(damaged, june); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), damaged) {
		t.Errorf("a damaged base: %v", err)
	}
	parts := davit.PullOptions{Platforms: opts.Platforms, Format: davit.Components}
	cut := pullTo(t, in("cut"), parts, server.Host()+"/app:may")
	layers, _ := filepath.Glob(filepath.Join(cut, "layers", "*"))
	for _, layer := range layers {
		if err := os.Truncate(layer, 100); err != nil {
			t.Fatal(err)
		}
	}
	if err := apply(cut, june); len(layers) != 3 || !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), cut) {
		t.Errorf("a base whose layers are cut off: %v", err)
	}

	for name, files := range map[string][]string{
		"no base":           {june},
		"a name":            {"registry.example/app:may", june},
		"an image of it":    {may + ":may", june},
		"a file that's not": {in("gone.tar"), june},
	} {
		if err := apply(files...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := davit.Apply(t.Context(), []string{may, june}, davit.PullOptions{Output: may}); err == nil || !strings.Contains(err.Error(), "another output") {
		t.Errorf("a base as output: %v", err)
	}
	if _, err := davit.Apply(t.Context(), []string{may, june}, davit.PullOptions{Output: in("x"), Format: davit.Files}); err == nil {
		t.Error("a tree of files is written")
	}
	if _, err := davit.Pull(t.Context(), june, davit.PullOptions{Output: in("copy.tar")}); !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), "expected in may.tar") {
		t.Errorf("a delta by itself: %v", err)
	}
}
