package image_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

func indexContent(raw string) image.Content {
	return image.Content{
		Descriptor: image.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(raw), Size: int64(len(raw))}, Bytes: []byte(raw),
	}
}

func numbered(n int) image.Descriptor {
	return image.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(n)), Size: int64(n), ArtifactType: "application/x"}
}

func TestAddReferrers(t *testing.T) {
	one, err := image.AddReferrers(image.Content{}, numbered(1), numbered(1))
	if err != nil {
		t.Fatal(err)
	}
	index, err := image.ParseIndex(one)
	if diff := cmp.Diff([]image.Descriptor{numbered(1)}, index.Manifests); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	same, err := image.AddReferrers(one, numbered(1))
	if diff := cmp.Diff(one, same); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if one.Digest != digest.FromBytes(one.Bytes) || one.MediaType != ocispec.MediaTypeImageIndex || one.Size != int64(len(one.Bytes)) {
		t.Errorf("%+v", one.Descriptor)
	}

	// What others wrote stays as it is.
	entry := `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("theirs").String() + `","size":7,"other":{"b":1,"a":2}}`
	theirs := indexContent(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","more":[1, 2],"manifests":[` + entry + `],"annotations":{"k":"v"}}`)
	two, err := image.AddReferrers(theirs, numbered(2), numbered(3))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(two.Bytes); !strings.Contains(text, entry) || !strings.Contains(text, `"more":[1,2]`) || !strings.Contains(text, `"annotations":{"k":"v"}`) {
		t.Errorf("written: %s", text)
	}
	index, err = image.ParseIndex(two)
	if err != nil || len(index.Manifests) != 3 || index.Manifests[1].Digest != numbered(2).Digest || index.Manifests[2].Digest != numbered(3).Digest {
		t.Errorf("%v, %v", index.Manifests, err)
	}
}

func TestAddReferrersRefuses(t *testing.T) {
	var full []image.Descriptor
	for n := range image.MaxDescriptors {
		full = append(full, numbered(n+1))
	}
	whole, err := image.AddReferrers(image.Content{}, full...)
	if err != nil {
		t.Fatal(err)
	}
	list := indexContent(`{"schemaVersion":2,"mediaType":"` + image.MediaTypeDockerList + `","manifests":[]}`)
	list.MediaType = image.MediaTypeDockerList
	large := numbered(0)
	large.Annotations = map[string]string{"large": strings.Repeat("x", image.MaxManifestSize)}
	for name, test := range map[string]struct {
		c   image.Content
		add image.Descriptor
	}{
		"no index":      {indexContent(`{"schemaVersion":2,"config":{},"layers":[]}`), numbered(0)},
		"no JSON":       {indexContent(`{`), numbered(0)},
		"Docker's list": {list, numbered(0)},
		"a wrong entry": {indexContent(`{"schemaVersion":2,"manifests":[{"digest":"sha256:x"}]}`), numbered(0)},
		"twice":         {indexContent(`{"schemaVersion":2,"manifests":[],"manifests":[]}`), numbered(0)},
		"too many":      {whole, numbered(0)},
		"too large":     {image.Content{}, large},
	} {
		if c, err := image.AddReferrers(test.c, test.add); !errors.Is(err, image.ErrVerification) || c.Bytes != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An entry that refers to an image is found as one, by cosign's name too, and
// has no name that a loader could take for an image's.
func TestStoredReferrerEntries(t *testing.T) {
	subject := digest.FromString("subject")
	tag := image.ReferrersTag(subject) + ".sig"
	for name, test := range map[string]struct {
		annotations map[string]string
		want        image.Stored
		referrer    bool
	}{
		"by subject": {map[string]string{image.AnnotationSubject: subject.String()}, image.Stored{Subject: subject}, true},
		"by name": {
			map[string]string{image.AnnotationSubject: subject.String(), image.AnnotationReferrerName: "example.com/app:" + tag},
			image.Stored{Subject: subject, Name: "example.com/app:" + tag}, true,
		},
		"by tag": {
			map[string]string{image.AnnotationSubject: subject.String(), image.AnnotationReferrerName: tag},
			image.Stored{Subject: subject, RefName: tag}, true,
		},
		"any tag":           {map[string]string{image.AnnotationSubject: subject.String(), image.AnnotationReferrerName: "latest"}, image.Stored{Subject: subject}, true},
		"a tag of others":   {map[string]string{image.AnnotationSubject: subject.String(), image.AnnotationReferrerName: "example.com/app:v1"}, image.Stored{Subject: subject}, true},
		"no subject":        {map[string]string{image.AnnotationReferrerName: "example.com/app:" + tag}, image.Stored{}, false},
		"no digest":         {map[string]string{image.AnnotationSubject: "../x", image.AnnotationReferrerName: tag}, image.Stored{}, false},
		"an image's name":   {map[string]string{ocispec.AnnotationRefName: "v1"}, image.Stored{RefName: "v1"}, false},
		"a referrer's name": {map[string]string{ocispec.AnnotationRefName: tag}, image.Stored{RefName: tag}, true},
	} {
		d := image.Descriptor{Digest: digest.FromString("x"), Size: 1, Annotations: test.annotations}
		test.want.Descriptor = d
		got := image.StoredOf(d)
		if diff := cmp.Diff(test.want, got); diff != "" || got.IsReferrer() != test.referrer {
			t.Errorf("%s: %v (-want +got):\n%s", name, got.IsReferrer(), diff)
		}
	}
}
