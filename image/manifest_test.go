package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func doc(mediaType, body string) Content {
	return Content{Descriptor: descriptorOf(mediaType, []byte(body)), Bytes: []byte(body)}
}

func descriptorOf(mediaType string, b []byte) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hexB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

var goodConfig = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hexB + `","size":10}`

func TestMediaTypeOf(t *testing.T) {
	const (
		index = `"manifests":[]`
		image = `"config":{},"layers":[]`
	)
	tests := []struct {
		name, served, body, want string
		err                      error
	}{
		{"header rules", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,` + image + `}`, ocispec.MediaTypeImageManifest, nil},
		{"header with parameters", "Application/vnd.oci.image.index.v1+JSON; charset=utf-8", `{` + index + `}`, ocispec.MediaTypeImageIndex, nil},
		{"both agree", MediaTypeDockerList, `{"mediaType":"` + MediaTypeDockerList + `",` + index + `}`, MediaTypeDockerList, nil},
		{"both disagree", ocispec.MediaTypeImageIndex, `{"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + index + `}`, "", ErrVerification},
		{"docker and OCI disagree", MediaTypeDockerManifest, `{"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + image + `}`, "", ErrVerification},
		{"vague header", "application/json", `{"mediaType":"` + MediaTypeDockerManifest + `",` + image + `}`, MediaTypeDockerManifest, nil},
		{"vague headers of servers of files", "binary/octet-stream", `{"mediaType":"` + MediaTypeDockerManifest + `",` + image + `}`, MediaTypeDockerManifest, nil},
		{"another vague header", "text/json", `{"mediaType":"` + MediaTypeDockerManifest + `",` + image + `}`, MediaTypeDockerManifest, nil},
		{"no header, index by shape", "", `{` + index + `}`, ocispec.MediaTypeImageIndex, nil},
		{"no header, manifest by shape", "text/plain", `{` + image + `}`, ocispec.MediaTypeImageManifest, nil},
		{"neither", "", `{"schemaVersion":2}`, "", ErrVerification},
		{"both shapes", "", `{` + index + `,` + image + `}`, "", ErrVerification},
		{"index with layers", ocispec.MediaTypeImageIndex, `{` + index + `,"layers":[]}`, "", ErrVerification},
		{"index that is a manifest", ocispec.MediaTypeImageIndex, `{` + image + `}`, "", ErrVerification},
		{"manifest with manifests", ocispec.MediaTypeImageManifest, `{` + image + `,"manifests":[]}`, "", ErrVerification},
		{"manifest with fsLayers", ocispec.MediaTypeImageManifest, `{` + image + `,"fsLayers":[]}`, "", ErrVerification},
		{"null is nothing", ocispec.MediaTypeImageManifest, `{` + image + `,"manifests":null}`, ocispec.MediaTypeImageManifest, nil},
		{"a field twice", ocispec.MediaTypeImageManifest, `{` + image + `,"layers":[]}`, "", ErrVerification},
		{"a field in capitals", ocispec.MediaTypeImageManifest, `{` + image + `,"Layers":[]}`, "", ErrVerification},
		{"a field with a long s", ocispec.MediaTypeImageManifest, `{` + image + `,"layerſ":[]}`, "", ErrVerification},
		{"not JSON", ocispec.MediaTypeImageManifest, `<html>`, "", ErrVerification},
		{"empty", ocispec.MediaTypeImageManifest, ``, "", ErrVerification},
		{"null", ocispec.MediaTypeImageManifest, `null`, "", ErrVerification},
		{"a list", ocispec.MediaTypeImageManifest, `[]`, "", ErrVerification},
		{"cut short", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,`, "", ErrVerification},
		{"trailing", ocispec.MediaTypeImageManifest, `{` + image + `}{}`, "", ErrVerification},
		{"over 4 MiB", ocispec.MediaTypeImageManifest, `{` + image + `}` + strings.Repeat(" ", MaxManifestSize), "", ErrVerification},
		{"schemaVersion 3", ocispec.MediaTypeImageManifest, `{"schemaVersion":3,` + image + `}`, "", ErrVerification},
		{"schemaVersion is text", ocispec.MediaTypeImageManifest, `{"schemaVersion":"2",` + image + `}`, "", ErrVerification},
		{"mediaType is a number", ocispec.MediaTypeImageManifest, `{"mediaType":2,` + image + `}`, "", ErrVerification},
		{"schema 1 by header", MediaTypeDockerSchema1JWS, `whatever`, MediaTypeDockerSchema1JWS, ErrSchema1},
		{"schema 1 by version", "application/json", `{"schemaVersion":1,"fsLayers":[]}`, MediaTypeDockerSchema1, ErrSchema1},
		{"schema 1 by version, signed", "", `{"schemaVersion":1,"fsLayers":[],"signatures":[]}`, MediaTypeDockerSchema1JWS, ErrSchema1},
		{"schema 1 by mediaType", "", `{"mediaType":"` + MediaTypeDockerSchema1 + `"}`, MediaTypeDockerSchema1, ErrSchema1},
		{"unknown type", "application/vnd.example.x+json", `{}`, "application/vnd.example.x+json", ErrMediaType},
		{"unknown type inside", "", `{"mediaType":"application/vnd.\u001b[1mx"}`, "application/vnd.\x1b[1mx", ErrMediaType},
	}
	for _, tt := range tests {
		got, err := MediaTypeOf(doc(tt.served, tt.body))
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %q", tt.name, err)
		}
	}
}

func TestParseManifest(t *testing.T) {
	manifest := func(config, layers string) Content {
		return doc(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+config+`,"layers":[`+layers+`]}`)
	}
	layer := func(dgst, size string) string {
		return `{"mediaType":"x","digest":"` + dgst + `","size":` + size + `}`
	}
	good := layer("sha256:"+hexA, "5")
	m, err := ParseManifest(manifest(goodConfig, good+","+good+","+layer("sha512:"+hexA+hexA, "0")))
	if err != nil || len(m.Layers) != 3 || m.Config.Size != 10 {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := ParseManifest(manifest(goodConfig, strings.Repeat(good+",", MaxDescriptors-1)+good)); err != nil {
		t.Errorf("%d layers: %v", MaxDescriptors, err)
	}

	data := func(size int, text string) string {
		return fmt.Sprintf(`{"mediaType":"x","digest":%q,"size":%d,"data":"eA=="}`, digest.FromString(text), size) // eA== is x
	}
	if m, err := ParseManifest(manifest(goodConfig, data(1, "x"))); err != nil || string(m.Layers[0].Data) != "x" {
		t.Errorf("embedded data: %+v, %v", m, err)
	}
	tests := []struct {
		name, want string
		c          Content
	}{
		{"no config", "no config", doc(ocispec.MediaTypeImageManifest, `{"layers":[]}`)},
		{"config null", "no config", manifest("null", "")},
		{"an index", "is no manifest", doc(ocispec.MediaTypeImageIndex, `{"manifests":[]}`)},
		{"config's digest", "sha256:../x", manifest(layer("sha256:../x", "1"), "")},
		{"layer's digest", "layer 2", manifest(goodConfig, good+","+layer("sha256:../x", "1"))},
		{"uppercase digest", "lowercase", manifest(goodConfig, layer("sha256:"+strings.ToUpper(hexA), "1"))},
		{"no digest", "layer 1", manifest(goodConfig, `{}`)},
		{"negative size", "negative size -1", manifest(goodConfig, layer("sha256:"+hexA, "-1"))},
		{"two sizes", "has two sizes: 1 and 2", manifest(goodConfig, layer("sha256:"+hexA, "1")+","+layer("sha256:"+hexA, "2"))},
		{"absurd size", "has the size", manifest(goodConfig, layer("sha256:"+hexA, "9223372036854775807"))},
		{"size over int64", "malformed", manifest(goodConfig, layer("sha256:"+hexA, "9223372036854775808"))},
		{"size as text", "malformed", manifest(goodConfig, layer("sha256:"+hexA, `"1"`))},
		{"sum of sizes", "together", manifest(goodConfig, layer("sha256:"+hexA, "17592186044416"))},
		{"10 000 layers", "10000 layers", manifest(goodConfig, strings.Repeat(good+",", 9999)+good)},
		{"data of another size", "embedded data", manifest(goodConfig, data(2, "x"))},
		{"data of another digest", "embedded data", manifest(goodConfig, data(1, "y"))},
		{"layers are an object", "malformed", doc(ocispec.MediaTypeImageManifest, `{"config":`+goodConfig+`,"layers":{}}`)},
	}
	for _, tt := range tests {
		got, err := ParseManifest(tt.c)
		if !errors.Is(err, ErrVerification) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", tt.name, got, err, tt.want)
		}
	}
}

func TestParseIndex(t *testing.T) {
	index := func(manifests string) Content {
		return doc(ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[`+manifests+`]}`)
	}
	one, err := json.Marshal(entry("one", "linux/amd64"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseIndex(index(string(one)))
	if err != nil || len(got.Manifests) != 1 || got.Manifests[0].Platform.Architecture != "amd64" {
		t.Fatalf("%+v, %v", got, err)
	}
	tests := []struct {
		name, want string
		c          Content
	}{
		{"a manifest", "is no index", doc(ocispec.MediaTypeImageManifest, `{"config":`+goodConfig+`}`)},
		{"bad digest", "manifest 1 of the index", index(`{"digest":"sha256:../x","size":1}`)},
		{"negative size", "negative size", index(`{"digest":"sha256:` + hexA + `","size":-5}`)},
		{"10 000 manifests", "10000 manifests", index(strings.Repeat(string(one)+",", 9999) + string(one))},
		{"not a list", "malformed", doc(ocispec.MediaTypeImageIndex, `{"manifests":1}`)},
	}
	for _, tt := range tests {
		got, err := ParseIndex(tt.c)
		if !errors.Is(err, ErrVerification) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", tt.name, got, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+goodConfig+`,"layers":[`+goodConfig+`]}`)
	f.Add(ocispec.MediaTypeImageIndex, `{"manifests":[`+goodConfig+`]}`)
	f.Add("", `{"manifests":null,"layers":[{"data":"eA=="}]}`)
	f.Fuzz(func(t *testing.T, mediaType, body string) {
		c := doc(mediaType, body)
		for _, err := range []error{parseErr(ParseManifest(c)), parseErr(ParseIndex(c))} {
			if err != nil && !errors.Is(err, ErrVerification) && !errors.Is(err, ErrSchema1) && !errors.Is(err, ErrMediaType) {
				t.Errorf("%q: %v", body, err)
			}
		}
		if m, err := ParseManifest(c); err == nil {
			total := m.Config.Size
			for _, l := range m.Layers {
				total += l.Size
				if l.Size < 0 || total < 0 || CheckDigest(l.Digest) != nil {
					t.Errorf("%q passed: %+v", body, l)
				}
			}
		}
	})
}

func parseErr[T any](_ T, err error) error { return err }
