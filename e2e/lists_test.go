package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
	client "github.com/davit-cli/davit/registry"
)

// What distribution's registry lists and describes: it answers HEADs, has a
// catalog with a scope of its own, and no API for referrers.
func TestLists(t *testing.T) {
	enabled(t)
	const repositories, tags = 101, 1000 // more than a page of each
	open := startRegistry(t)
	name := robin.repository()
	p := registrytest.Build(registrytest.Image{})
	open.pushBlob(t, name, p.Config, io.NopCloser(bytes.NewReader(p.ConfigBytes)))
	for i := range tags {
		open.pushManifest(t, name, fmt.Sprintf("v%04d", i), p.Manifest, p.ManifestBytes)
	}
	for i := range repositories - 1 {
		other := fmt.Sprintf("other/%03d", i)
		open.pushBlob(t, other, p.Config, io.NopCloser(bytes.NewReader(p.ConfigBytes)))
		open.pushManifest(t, other, "v1", p.Manifest, p.ManifestBytes)
	}
	referrer, signature := open.pushReferrers(t, name, p.Manifest)

	users := htpasswd(t, robin)
	mine := credential.Given(robin.name, robin.password, "--username", "")
	for kind, door := range map[string]struct {
		host string
		show credential.Provider
	}{
		"open":  {open.host, nil},
		"Basic": {open.guarded(t, basicAuth(users)).host, mine},
		"token": {open.guarded(t, startTokenServer(t, users).auth("")).host, mine},
	} {
		s := client.NewSession(client.Options{Credentials: door.show})
		h, err := s.OpenHost(ref.Reference{Registry: door.host})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(ref.Reference{Registry: door.host, Repository: name})
		if err != nil {
			t.Fatal(err)
		}
		listed := 0
		count := func(page []string) error { listed += len(page); return nil }
		if err := h.Catalog(t.Context(), count); err != nil || listed != repositories {
			t.Errorf("%s: %d repositories, %v", kind, listed, err)
		}
		listed = 0
		if err := r.Tags(t.Context(), count); err != nil || listed != tags+2 {
			t.Errorf("%s: %d tags, %v", kind, listed, err)
		}
		for _, what := range []string{"v0000", p.Manifest.Digest.String()} {
			if got, err := r.Describe(t.Context(), what); err != nil || cmp.Diff(p.Manifest, got) != "" {
				t.Errorf("%s: %s: %+v, %v", kind, what, got, err)
			}
		}
		if size, err := r.BlobSize(t.Context(), p.Config.Digest); err != nil || size != p.Config.Size {
			t.Errorf("%s: a blob of %d bytes, %v", kind, size, err)
		}
		for what, err := range map[string]error{
			"no tag":  second(r.Describe(t.Context(), "none")),
			"no blob": second(r.BlobSize(t.Context(), digest.FromString("none"))),
		} {
			if !errors.Is(err, image.ErrNotFound) {
				t.Errorf("%s: %s: %v", kind, what, err)
			}
		}
		got, err := r.Referrers(t.Context(), p.Manifest.Digest)
		if diff := cmp.Diff([]ocispec.Descriptor{referrer, signature}, got); err != nil || diff != "" {
			t.Errorf("%s: referrers: %v, %s", kind, err, diff)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// pushReferrers pushes an artifact that refers to a manifest, with the index of
// its referrers under the tag that stands for a list, and another as cosign
// tags it.
func (r *registry) pushReferrers(t testing.TB, name string, subject ocispec.Descriptor) (referrer, signature ocispec.Descriptor) {
	t.Helper()
	empty := ocispec.DescriptorEmptyJSON
	r.pushBlob(t, name, empty, io.NopCloser(bytes.NewReader(empty.Data)))
	push := func(tag, mediaType string, document any) ocispec.Descriptor {
		raw, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		if tag == "" {
			tag = d.Digest.String()
		}
		r.pushManifest(t, name, tag, d, raw)
		return d
	}
	artifact := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: "application/spdx+json", Config: empty, Layers: []ocispec.Descriptor{empty}, Subject: &subject,
	}
	referrer = push("", artifact.MediaType, artifact)
	referrer.ArtifactType = artifact.ArtifactType
	tag := "sha256-" + subject.Digest.Encoded()
	push(tag, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: artifact.Versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{referrer},
	})
	artifact.Subject, artifact.ArtifactType = nil, ""
	signature = push(tag+".sig", artifact.MediaType, artifact)
	signature.ArtifactType = "application/vnd.dev.cosign.artifact.sig.v1+json"
	return referrer, signature
}
