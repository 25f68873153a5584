package image

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// raw is a descriptor's JSON, with more fields than davit knows.
func raw(d Descriptor, more string) string {
	return fmt.Sprintf(`{ "digest":%q, "size": %d,"mediaType":%q%s}`, d.Digest, d.Size, d.MediaType, more)
}

func (m *memory) rawIndex(more string, entries ...string) Descriptor {
	return m.add(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2`+more+`,
		"manifests":[`+strings.Join(entries, ",")+`]}`))
}

func (m *memory) resolve(t *testing.T, name string, want Platforms) Image {
	t.Helper()
	r, err := ref.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := Resolve(context.Background(), m, r, want, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// check says that an image fits together: the indexes name each other and the
// manifests, every document has its digest, and the image resolves as it is.
func check(t *testing.T, img Image) {
	t.Helper()
	src := newMemory()
	for _, c := range img.Indexes {
		if err := CheckBytes(c.Descriptor, c.Bytes); err != nil {
			t.Errorf("index: %v", err)
		}
		src.manifests[c.Digest.String()] = c
	}
	for _, m := range img.Manifests {
		src.manifests[m.Digest.String()] = m.Content
		src.blobs[m.Config.Digest] = m.Config.Bytes
	}
	again, err := Resolve(context.Background(), src, ref.Reference{Registry: "r.io", Repository: "a", Digest: img.Root().Digest}, Platforms{All: true}, nil)
	if err != nil {
		t.Fatalf("the image does not resolve: %v", err)
	}
	if len(again.Manifests) != len(img.Manifests) {
		t.Errorf("the indexes lead to %d manifests, want %d", len(again.Manifests), len(img.Manifests))
	}
}

func TestTrim(t *testing.T) {
	src := newMemory()
	amd64, arm64, s390x := src.image("linux/amd64"), src.image("linux/arm64"), src.image("linux/s390x")
	const amd = `,"platform":{"os":"linux","architecture":"amd64"}`
	const arm = `,"platform":{"os":"linux","architecture":"arm64"}`
	attestation := src.add(ocispec.MediaTypeImageManifest, manifestOf(src.blob("application/vnd.oci.empty.v1+json", []byte("{}"))))
	attests := `,"annotations":{"vnd.docker.reference.type":"attestation-manifest"},"platform":{"os":"unknown","architecture":"unknown"}`
	root := src.rawIndex(`,"x":{"b":1.0,"a":"<é>"},"annotations":{"k":"v"}`,
		raw(arm64, arm+`,"y":[1 , 2]`), raw(attestation, attests), raw(amd64, amd), raw(arm64, arm+`,"annotations":{"again":"yes"}`), raw(s390x, ""))
	name := "r.io/a@" + root.Digest.String()

	img := src.resolve(t, name, Platforms{List: []Platform{{OS: "linux", Architecture: "arm64"}}})
	got, err := Trim(img)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"annotations":{"k":"v"},"manifests":[` +
		strings.ReplaceAll(raw(arm64, arm+`,"y":[1,2]`), " ", "") + "," +
		strings.ReplaceAll(raw(arm64, arm+`,"annotations":{"again":"yes"}`), " ", "") +
		`],"schemaVersion":2,"x":{"b":1.0,"a":"<é>"}}`
	if diff := cmp.Diff(want, string(got.Indexes[0].Bytes)); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	if got.Name.Digest != got.Root().Digest || got.Root().Digest == root.Digest || got.Reference.Digest != root.Digest {
		t.Errorf("it is called %s, asked for as %s; the root is %s", got.Name, got.Reference, got.Root().Digest)
	}
	if !got.KeepIndexes || len(got.Manifests) != 1 {
		t.Errorf("the image is %+v", got)
	}
	check(t, got)
	if again, err := Trim(got); err != nil || string(again.Root().Bytes) != want {
		t.Errorf("trimmed again: %s, %v", again.Root().Bytes, err)
	}

	// All of it: nothing is absent.
	img = src.resolve(t, name, Platforms{All: true})
	if got, err = Trim(img); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(img, got, cmp.Comparer(func(a, b *memory) bool { return a == b })); diff != "" {
		t.Errorf("an image of which nothing is absent changed:\n%s", diff)
	}

	// A tag stays.
	src.manifests["1"] = src.manifests[root.Digest.String()]
	img = src.resolve(t, "r.io/a:1", Platforms{List: []Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"}}})
	if got, err = Trim(img); err != nil || got.Name != img.Name || len(got.Manifests) != 2 {
		t.Errorf("it is called %s, %v", got.Name, err)
	}
	check(t, got)

	// A manifest without an index.
	img = src.resolve(t, "r.io/a@"+amd64.Digest.String(), Platforms{})
	if got, err = Trim(img); err != nil || got.Name != img.Name || got.Root().Digest != amd64.Digest {
		t.Errorf("a manifest alone: %s, %v", got.Name, err)
	}
}

func TestTrimNested(t *testing.T) {
	src := newMemory()
	amd64, arm64, s390x := src.image("linux/amd64"), src.image("linux/arm64"), src.image("linux/s390x")
	// deep is named twice.
	deep := src.index([]Descriptor{amd64, s390x})
	left := src.index([]Descriptor{deep, arm64})
	right := src.rawIndex("", raw(src.image("linux/386"), ""), raw(deep, `,"annotations":{"k":"v"}`))
	bare := src.index([]Descriptor{src.image("linux/ppc64le")})
	root := src.index([]Descriptor{left, bare, right})
	img := src.resolve(t, "r.io/a@"+root.Digest.String(), Platforms{All: true})
	whole, err := Trim(img)
	if err != nil || whole.Root().Digest != root.Digest {
		t.Errorf("nothing is absent, but the root is %s, %v", whole.Root().Digest, err)
	}

	for i, m := range img.Manifests {
		if m.Digest == amd64.Digest {
			img.Manifests = img.Manifests[i : i+1]
			break
		}
	}
	got, err := Trim(img)
	if err != nil {
		t.Fatal(err)
	}
	check(t, got)
	names := map[digest.Digest][]Descriptor{}
	for _, c := range got.Indexes {
		index, err := ParseIndex(c)
		if err != nil {
			t.Fatal(err)
		}
		names[c.Digest] = index.Manifests
	}
	top := names[got.Root().Digest]
	if len(got.Indexes) != 4 || len(top) != 2 {
		t.Fatalf("%d indexes are left, the root names %d", len(got.Indexes), len(top))
	}
	l, r := names[top[0].Digest], names[top[1].Digest]
	if len(l) != 1 || len(r) != 1 || l[0].Digest != r[0].Digest || r[0].Annotations["k"] != "v" {
		t.Errorf("they name %+v and %+v", l, r)
	}
	if inner := names[l[0].Digest]; len(inner) != 1 || inner[0].Digest != amd64.Digest {
		t.Errorf("the innermost names %+v", inner)
	}
}

func TestDerive(t *testing.T) {
	src := newMemory()
	amd64, arm64 := src.image("linux/amd64"), src.image("linux/arm64")
	attestation := src.add(ocispec.MediaTypeImageManifest, manifestOf(src.blob("application/vnd.oci.empty.v1+json", []byte("{}"))))
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	embedded := src.manifests[amd64.Digest.String()].Bytes
	data, err := json.Marshal(embedded)
	if err != nil {
		t.Fatal(err)
	}
	root := src.rawIndex("", raw(amd64, `,"data":`+string(data)+`,"urls":["https://x"],"artifactType":"a",
		"annotations":{"zstd":"true","toc.a":"1","toc.b":"2","stays":"yes"}`), raw(arm64, ""), raw(attestation, `,"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`))
	img := src.resolve(t, "r.io/a@"+root.Digest.String(), Platforms{All: true})
	if len(img.Manifests) != 3 {
		t.Fatalf("the image has %d manifests", len(img.Manifests))
	}

	m := img.Manifests[0]
	m.Content, err = Rewrite(m.Content, []Edit{{}, {To: &Descriptor{MediaType: "m", Digest: digest.FromString("new"), Size: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	change := Change{
		Manifests: map[digest.Digest]Manifest{amd64.Digest: m},
		Drop:      isAttestation,
		Strip:     []string{"zstd", "toc.*", "stay"},
	}
	got, err := Derive(img, change)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"manifests":[{"annotations":{"stays":"yes"},"artifactType":"a","digest":"` + m.Digest.String() + `","mediaType":"` + m.MediaType +
		`","size":` + fmt.Sprint(m.Size) + `},` + strings.ReplaceAll(raw(arm64, ""), " ", "") + `],"schemaVersion":2}`
	if diff := cmp.Diff(want, string(got.Root().Bytes)); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	if len(got.Manifests) != 2 || got.Manifests[0].Digest != m.Digest || got.Name.Digest != got.Root().Digest {
		t.Errorf("it became %+v", got)
	}
	if img.Manifests[0].Digest != amd64.Digest || len(img.Manifests) != 3 {
		t.Error("the image it is made of changed")
	}

	// A manifest alone.
	img = src.resolve(t, "r.io/a@"+amd64.Digest.String(), Platforms{})
	if got, err = Derive(img, change); err != nil || got.Root().Digest != m.Digest || got.Name.Digest != m.Digest {
		t.Errorf("a manifest alone became %s, called %s, %v", got.Root().Digest, got.Name, err)
	}

	// Nothing is left.
	img = src.resolve(t, "r.io/a@"+root.Digest.String(), Platforms{All: true})
	if _, err = Derive(img, Change{Drop: func(Descriptor) bool { return true }}); err == nil {
		t.Error("an image of nothing is no error")
	}
}

// What Go's decoder reads as a field's name in another case, says nothing else
// afterwards.
func TestRewriteLeavesNoOtherCase(t *testing.T) {
	c := Content{Bytes: []byte(`{"manifests":[{"Digest":"x","SIZE":1,"URLs":["u"],"digest":"y","other":"stays"},{}]}`)}
	c.MediaType = ocispec.MediaTypeImageIndex
	got, err := Rewrite(c, []Edit{{To: &Descriptor{MediaType: "m", Digest: "z", Size: 2}}, {}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"manifests":[{"digest":"z","mediaType":"m","other":"stays","size":2},{}]}`; string(got.Bytes) != want {
		t.Errorf("it is %s, want %s", got.Bytes, want)
	}
	if _, err := Rewrite(c, []Edit{{Drop: true}}); err == nil {
		t.Error("one edit for two entries is taken")
	}
}
