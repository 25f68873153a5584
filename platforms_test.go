package davit_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// platformsOf are two images of an index, the first with a layer that is there
// twice, and an attestation.
func platformsOf() registrytest.Index {
	layer := registrytest.RandomLayer(1, 10_000)
	return registrytest.Index{
		Attestations: true,
		Images: []registrytest.Image{
			{Layers: []registrytest.Layer{layer, registrytest.RandomLayer(2, 5_000), layer}},
			{Platform: image.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1", OSFeatures: []string{"win32k"}}},
		},
	}
}

func TestListPlatforms(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	index := server.PushIndex("app", "v1", platformsOf())
	linux, windows := index.Images[0], index.Images[1]
	want := []davit.PlatformResult{
		{
			Platform: "linux/amd64", OS: "linux", Architecture: "amd64", Digest: linux.Manifest.Digest,
			Size: linux.Config.Size + linux.Layers[0].Size + linux.Layers[1].Size,
		},
		{
			Platform: "windows(10.0.17763.1+win32k)/amd64", OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1",
			OSFeatures: []string{"win32k"}, Digest: windows.Manifest.Digest, Size: windows.Config.Size,
		},
	}
	got, err := davit.ListPlatforms(t.Context(), server.Host()+"/app:v1", davit.LookOptions{})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	for _, p := range got { // each is ready for --platform
		m, err := davit.Manifest(t.Context(), server.Host()+"/app:v1", davit.LookOptions{Platform: p.Platform})
		if err != nil || m.Digest != p.Digest {
			t.Errorf("%s is %s, %v", p.Platform, m.Digest, err)
		}
	}

	// One that cannot be had does not hide the other.
	server.Configure(func(o *registrytest.Options) {
		o.Answers = []registrytest.Answer{{Match: registrytest.Of(windows.Manifest.Digest), Status: http.StatusNotFound}}
	})
	got, err = davit.ListPlatforms(t.Context(), server.Host()+"/app:v1", davit.LookOptions{})
	if err != nil || !errors.Is(got[1].Err, image.ErrNotFound) || got[1].Error != got[1].Err.Error() {
		t.Fatalf("%v, %v", err, got)
	}
	want[1].Size = 0
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(davit.PlatformResult{}, "Err", "Error")); diff != "" {
		t.Error(diff)
	}
}

// Of a layout that has one platform of an index, the others are told without
// their sizes.
func TestListPlatformsOfLayout(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	index := server.PushIndex("app", "v1", platformsOf())
	dir := filepath.Join(t.TempDir(), "layout")
	_, err := davit.Pull(t.Context(), server.Host()+"/app@"+index.Index.Digest.String(), davit.PullOptions{
		Format: davit.OCI, Output: dir, Platforms: []string{"linux/amd64"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := davit.ListPlatforms(t.Context(), dir, davit.LookOptions{})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0].Size == 0 || got[0].Err != nil || got[1].Size != 0 || !errors.Is(got[1].Err, image.ErrNotFound) || got[1].OS != "windows" {
		t.Errorf("%+v", got)
	}
}

// What is no container image has no platform; a config that is wrong is told.
func TestListPlatformsWithoutIndex(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	config := server.AddBlob([]byte(`{"name":"chart"}`))
	for mediaType, want := range map[string]string{
		"application/vnd.cncf.helm.config.v1+json": "",
		"application/vnd.oci.image.config.v1+json": "diff_ids",
	} {
		server.PushRaw("x", "v1", "application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
			`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"digest":%q,"size":%d}]}`,
			mediaType, config.Digest, config.Size, config.Digest, config.Size))
		got, err := davit.ListPlatforms(t.Context(), server.Host()+"/x:v1", davit.LookOptions{})
		if err != nil || len(got) != 1 || got[0].Platform != "" || got[0].Size != config.Size || !strings.Contains(got[0].Error, want) || (want == "") != (got[0].Err == nil) {
			t.Errorf("%s: %+v, %v", mediaType, got, err)
		}
	}
}

// A manifest of another size than its index says is not taken, as by a pull.
func TestListPlatformsOfAnotherSize(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	m := server.Push("app", "one", registrytest.Image{}).Manifest
	server.PushRaw("app", "v1", ocispec.MediaTypeImageIndex, fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64"}}]}`,
		ocispec.MediaTypeImageIndex, m.MediaType, m.Digest, m.Size+1))
	got, err := davit.ListPlatforms(t.Context(), server.Host()+"/app:v1", davit.LookOptions{})
	if err != nil || len(got) != 1 || !errors.Is(got[0].Err, image.ErrVerification) || got[0].Size != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
