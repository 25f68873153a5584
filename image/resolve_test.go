package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// memory is a Source without tags to list; tagged adds them.
type memory struct {
	manifests map[string]Content // by tag and by digest
	blobs     map[digest.Digest][]byte
	send      func(ctx context.Context, b []byte) ([]byte, error) // what Blob gives for b; nil: b

	mu    sync.Mutex
	asked []string
}

func newMemory() *memory {
	return &memory{manifests: make(map[string]Content), blobs: make(map[digest.Digest][]byte)}
}

func (m *memory) Manifest(_ context.Context, tagOrDigest string) (Content, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, tagOrDigest)
	c, ok := m.manifests[tagOrDigest]
	if !ok {
		return Content{}, fmt.Errorf("get manifest %s: manifest unknown: %w", tagOrDigest, ErrNotFound)
	}
	return c, nil
}

func (m *memory) Blob(ctx context.Context, d Descriptor) ([]byte, error) {
	b, ok := m.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("blob unknown: %w", ErrNotFound)
	}
	if m.send != nil {
		return m.send(ctx, b)
	}
	return b, nil
}

func (m *memory) OpenRange(context.Context, Descriptor, int64, int64) (*Range, error) {
	return nil, errors.New("a layer is asked for")
}

type tagged struct {
	*memory
	pages [][]string
	err   error
}

func (m tagged) Tags(_ context.Context, fn func([]string) error) error {
	for _, page := range m.pages {
		if err := fn(page); err != nil {
			return err
		}
	}
	return m.err
}

// add stores a document by its digest and the tags, and returns its descriptor.
func (m *memory) add(mediaType string, v any, tags ...string) Descriptor {
	b, ok := v.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(v); err != nil {
			panic(err)
		}
	}
	c := Content{Descriptor: descriptorOf(mediaType, b), Bytes: b}
	for _, name := range append(tags, c.Digest.String()) {
		m.manifests[name] = c
	}
	return c.Descriptor
}

func (m *memory) blob(mediaType string, b []byte) Descriptor {
	d := descriptorOf(mediaType, b)
	m.blobs[d.Digest] = b
	return d
}

// image adds an image with a config for a platform (os/arch/variant) and two
// layers, and returns its manifest's descriptor, with the platform.
func (m *memory) image(platform string, tags ...string) Descriptor {
	p := *entry("", platform).Platform
	layers := []Descriptor{descriptorOf(ocispec.MediaTypeImageLayerGzip, []byte("lower")), descriptorOf(ocispec.MediaTypeImageLayerGzip, []byte(platform))}
	config, err := json.Marshal(ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("1"), digest.FromString("2")}}})
	if err != nil {
		panic(err)
	}
	d := m.add(ocispec.MediaTypeImageManifest, manifestOf(m.blob(ocispec.MediaTypeImageConfig, config), layers...), tags...)
	d.Platform = &p
	return d
}

func manifestOf(config Descriptor, layers ...Descriptor) ocispec.Manifest {
	m := ocispec.Manifest{Config: config, Layers: layers}
	m.SchemaVersion = 2
	if m.Layers == nil {
		m.Layers = []Descriptor{}
	}
	return m
}

func (m *memory) index(manifests []Descriptor, tags ...string) Descriptor {
	return m.add(ocispec.MediaTypeImageIndex, indexOf(manifests...), tags...)
}

func indexOf(manifests ...Descriptor) ocispec.Index {
	i := ocispec.Index{Manifests: manifests}
	i.SchemaVersion = 2
	return i
}

// events collects what is said.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) send(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) texts(kind EventKind) string {
	var texts []string
	for _, ev := range e.all {
		if ev.Kind == kind {
			texts = append(texts, ev.Text)
		}
	}
	return strings.Join(texts, "\n")
}

func mustParse(t *testing.T, s string) ref.Reference {
	t.Helper()
	r, err := ref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wanted(t *testing.T, values ...string) Platforms {
	t.Helper()
	p, err := ParsePlatforms(slices.DeleteFunc(values, func(s string) bool { return s == "" })...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// host is this machine's platform as an index names it, other one that it is not.
func hostAndOther() (host, other string) {
	if runtime.GOARCH == "s390x" {
		return "linux/s390x", "linux/amd64"
	}
	return FormatPlatform(DefaultPlatform()), "linux/s390x"
}

func TestResolve(t *testing.T) {
	host, other := hostAndOther()
	m := newMemory()
	single := m.image(host, "single")
	foreign := m.image(other, "foreign")
	noArch := withoutPlatform(foreign)
	attestation := annotated(entry("att", "unknown/unknown"), "vnd.docker.reference.type", "attestation-manifest")
	index := m.index([]Descriptor{single, foreign, attestation}, "index")
	m.index([]Descriptor{withPlatform(m.index([]Descriptor{single}), host), withPlatform(m.index([]Descriptor{noArch}), other)}, "nested-told")
	m.index([]Descriptor{single, m.index([]Descriptor{foreign})}, "nested-beside")
	m.index([]Descriptor{m.index([]Descriptor{m.index([]Descriptor{index})})}, "deep")
	m.index([]Descriptor{m.index([]Descriptor{m.index([]Descriptor{m.index([]Descriptor{index})})})}, "too-deep")
	m.index([]Descriptor{noArch, attestation}, "sole")
	m.index([]Descriptor{withPlatform(foreign, host)}, "lying")
	m.index([]Descriptor{withMediaType(single, MediaTypeDockerManifest)}, "contradicting")
	m.index([]Descriptor{withSize(single, single.Size+1)}, "wrong-size")
	m.index([]Descriptor{withSize(single, MaxManifestSize+1)}, "large")
	m.index([]Descriptor{withPlatform(entry("gone", ""), host)}, "gone")
	m.index([]Descriptor{foreign}, "only-foreign")
	m.add("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1}`), "schema1")
	m.add("application/vnd.example", []byte(`{}`), "unknown")
	m.add(ocispec.MediaTypeImageManifest, []byte(`<html>`), "html")
	m.add("application/json", []byte(`{"schemaVersion":2,"mediaType":"`+MediaTypeDockerManifest+`","config":`+goodConfig+`,"layers":[]}`), "lost-config")
	var wide []Descriptor
	for i := range 20 {
		wide = append(wide, m.index([]Descriptor{annotated(foreign, "n", fmt.Sprint(i))}))
	}
	m.index(wide, "wide")

	layers := m.manifests["single"]
	var mf ocispec.Manifest
	if err := json.Unmarshal(layers.Bytes, &mf); err != nil {
		t.Fatal(err)
	}
	m.add(ocispec.MediaTypeImageManifest, manifestOf(mf.Config, mf.Layers[0]), "diffids")
	m.add(ocispec.MediaTypeImageManifest, manifestOf(m.blob(ocispec.MediaTypeImageConfig, []byte("nope"))), "config-text")
	m.add(ocispec.MediaTypeImageManifest, manifestOf(m.blob(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","rootfs":{"diff_ids":["sha256:../x"]}}`)), mf.Layers[0]), "diffid-bad")
	m.add(ocispec.MediaTypeImageManifest, manifestOf(withSize(mf.Config, MaxConfigSize+1), mf.Layers...), "config-large")
	m.add(ocispec.MediaTypeImageManifest, manifestOf(withSize(mf.Config, mf.Config.Size+1), mf.Layers...), "config-size")
	m.add(ocispec.MediaTypeImageManifest, manifestOf(withMediaType(mf.Config, "application/octet-stream"), mf.Layers...), "octets")
	helm := m.add(ocispec.MediaTypeImageManifest, manifestOf(m.blob("application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"x"}`)), mf.Layers[0]), "helm")
	silent, err := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("1"), digest.FromString("2")}}})
	if err != nil {
		t.Fatal(err)
	}
	noArchConfig := m.add(ocispec.MediaTypeImageManifest, manifestOf(m.blob(ocispec.MediaTypeImageConfig, silent), mf.Layers...), "silent")
	arm := m.image("linux/arm", "arm")
	embedded := mf.Config
	embedded.Data = m.blobs[mf.Config.Digest]
	embedded.Digest = digest.SHA512.FromBytes(embedded.Data) // not in blobs: it must not be fetched
	m.add(ocispec.MediaTypeImageManifest, manifestOf(embedded, mf.Layers...), "embedded")

	tests := []struct {
		ref, want string
		manifest  Descriptor // zero: not compared
		platform  string
		err       error
		text      string // in the error or the notes and warnings
	}{
		{"r.io/a:index", "", single, host, nil, "r.io/a:index for " + host + " (this machine's architecture; choose another with --platform)"},
		{"r.io/a:index", host, single, host, nil, ""},
		{"r.io/a:index", other, foreign, other, nil, ""},
		{"r.io/a:index", "linux/mips", Descriptor{}, "", ErrNotFound, "  --platform " + other},
		{"r.io/a:index@" + index.Digest.String(), other, foreign, other, nil, ""},
		{"r.io/a@" + foreign.Digest.String(), "", foreign, other, nil, "is there for " + other + " only (this machine is " + host + ")"},
		{"r.io/a@" + digest.FromString("no").String(), "", Descriptor{}, "", ErrNotFound, "r.io/a@sha256:"},
		{"r.io/a:single", "", single, host, nil, ""},
		{"r.io/a:single", host, single, host, nil, ""},
		{"r.io/a:single", other, Descriptor{}, "", ErrNotFound, "it is an image for " + host + ", not for " + other + ": ask for it without a platform, or with --platform " + host},
		{"r.io/a:arm", "linux/arm/v6", arm, "linux/arm", nil, ""},
		{"r.io/a:nested-told", other, foreign, other, nil, ""},
		{"r.io/a:nested-beside", "", single, host, nil, "for " + host},
		{"r.io/a:nested-beside", other, foreign, other, nil, ""},
		{"r.io/a:nested-beside", "linux/mips", Descriptor{}, "", ErrNotFound, "--platform " + other},
		{"r.io/a:deep", other, foreign, other, nil, ""},
		{"r.io/a:too-deep", other, Descriptor{}, "", ErrVerification, "more than 4 indexes"},
		{"r.io/a:wide", "linux/mips", Descriptor{}, "", ErrVerification, "more than 16 nested indexes"},
		{"r.io/a:silent", "", noArchConfig, "linux", nil, "r.io/a:silent does not say which architecture it is for"},
		{"r.io/a:sole", "", foreign, other, nil, "is there for " + other + " only"},
		{"r.io/a:sole", host, Descriptor{}, "", ErrNotFound, "it is an image for " + other},
		{"r.io/a:lying", host, foreign, other, nil, "the index says that the image is for " + host + ", its config says " + other},
		{"r.io/a:only-foreign", "", Descriptor{}, "", ErrNotFound, "there is no image for " + host},
		{"r.io/a:contradicting", host, Descriptor{}, "", ErrVerification, "the index calls it"},
		{"r.io/a:wrong-size", host, Descriptor{}, "", ErrVerification, "bytes, not"},
		{"r.io/a:large", host, Descriptor{}, "", ErrVerification, "more than 4194304"},
		{"r.io/a:gone", host, Descriptor{}, "", ErrNotFound, "get manifest sha256:"},
		{"r.io/a:nothing", "", Descriptor{}, "", ErrNotFound, "r.io/a:nothing: get manifest nothing"},
		{"r.io/a:schema1", "", Descriptor{}, "", ErrSchema1, "r.io/a:schema1: read manifest sha256:"},
		{"r.io/a:unknown", "", Descriptor{}, "", ErrMediaType, "application/vnd.example"},
		{"r.io/a:html", "", Descriptor{}, "", ErrVerification, "no JSON"},
		{"r.io/a:lost-config", "", Descriptor{}, "", ErrNotFound, "fetch config sha256:"},
		{"r.io/a:diffids", "", Descriptor{}, "", ErrVerification, "2 diff_ids, but the manifest has 1 layers"},
		{"r.io/a:diffid-bad", "", Descriptor{}, "", ErrVerification, "diff_id 1"},
		{"r.io/a:config-text", "", Descriptor{}, "", ErrVerification, "no JSON"},
		{"r.io/a:config-large", "", Descriptor{}, "", ErrVerification, "more than 8388608"},
		{"r.io/a:config-size", "", Descriptor{}, "", ErrVerification, "bytes, not"},
		{"r.io/a:octets", host, Descriptor{}, host, nil, ""},
		{"r.io/a:embedded", host, Descriptor{}, host, nil, ""},
		{"r.io/a:helm", "", helm, "", nil, ""},
		{"r.io/a:helm", host, Descriptor{}, "", ErrNotFound, "an artifact (application/vnd.cncf.helm.config.v1+json)"},
	}
	for _, tt := range tests {
		t.Run(tt.ref+" "+tt.want, func(t *testing.T) {
			var said events
			r := mustParse(t, tt.ref)
			img, err := Resolve(context.Background(), m, r, wanted(t, tt.want), said.send)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v; want %v", err, tt.err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), r.String()+": ") {
					t.Errorf("%v; want it to name the image and %q", err, tt.text)
				}
				return
			}
			img.Tell(wanted(t, tt.want), said.send)
			said2 := said.texts(EventNote) + said.texts(EventWarning)
			only := img.IsArtifact() && said2 == "" || strings.HasPrefix(said2, img.Reference.String()+" for ") && !strings.Contains(said2, "\n")
			if !strings.Contains(said2, tt.text) || tt.text == "" && !only {
				t.Errorf("said %q; want %q", said2, tt.text)
			}
			if tt.manifest.Digest != "" && img.Manifests[0].Digest != tt.manifest.Digest {
				t.Errorf("manifest %s; want %s", img.Manifests[0].Digest, tt.manifest.Digest)
			}
			if got := img.Manifests[0].Platform; (tt.platform == "") != img.IsArtifact() || tt.platform != "" && FormatPlatform(got) != tt.platform {
				t.Errorf("platform %+v; want %s", got, tt.platform)
			}
			if img.Root().Digest != m.manifests[r.TagOrDigest()].Digest || img.Reference != r || img.Source != Source(m) || len(img.Manifests[0].Layers) == 0 {
				t.Errorf("%+v", img)
			}
			for _, c := range []Content{img.Root(), img.Manifests[0].Content, img.Manifests[0].Config} {
				if err := CheckBytes(c.Descriptor, c.Bytes); err != nil || c.Data != nil {
					t.Errorf("%+v: %v", c.Descriptor, err)
				}
			}
			if said.texts(EventStep) == "" {
				t.Error("no step was told")
			}
		})
	}
}

func withPlatform(d Descriptor, s string) Descriptor {
	d.Platform = entry("", s).Platform
	return d
}

func withoutPlatform(d Descriptor) Descriptor {
	d.Platform = nil
	return d
}

func withSize(d Descriptor, n int64) Descriptor {
	d.Size = n
	return d
}

// A source that does not keep its promise to verify.
func TestResolveVerifiesManifests(t *testing.T) {
	host, other := hostAndOther()
	m := newMemory()
	good, bad := m.image(host), m.image(other)
	m.manifests[good.Digest.String()] = m.manifests[bad.Digest.String()]
	_, err := Resolve(context.Background(), m, mustParse(t, "r.io/a@"+good.Digest.String()), Platforms{}, nil)
	if !errors.Is(err, ErrVerification) {
		t.Errorf("another manifest than asked for: %v", err)
	}

	// An index that contains itself can only come from a liar.
	index := m.index([]Descriptor{entry("x", "")}, "loop")
	liar := Content{Descriptor: index, Bytes: m.manifests["loop"].Bytes}
	m.manifests[digest.FromString("x").String()] = liar
	if _, err = Resolve(context.Background(), m, mustParse(t, "r.io/a:loop"), Platforms{}, nil); !errors.Is(err, ErrVerification) {
		t.Errorf("loop: %v", err)
	}

	r := mustParse(t, "r.io/a")
	r.Digest = "sha256:../x"
	m.asked = nil
	if _, err = Resolve(context.Background(), m, r, Platforms{}, nil); !errors.Is(err, ErrVerification) || m.asked != nil {
		t.Errorf("bad digest: %v, asked for %v", err, m.asked)
	}
	if _, err = Resolve(context.Background(), m, r.WithDigest("").WithTag("../x"), Platforms{}, nil); err == nil || m.asked != nil {
		t.Errorf("bad tag: %v, asked for %v", err, m.asked)
	}
}

// The signatures in a schema 1 manifest are no part of what its digest covers.
func TestResolveSchema1WithOtherDigest(t *testing.T) {
	m := newMemory()
	d := m.add(MediaTypeDockerSchema1JWS, []byte(`{"schemaVersion":1,"signatures":[]}`))
	c := m.manifests[d.Digest.String()]
	c.Digest = digest.FromString("payload")
	m.manifests["old"] = c
	if _, err := Resolve(context.Background(), m, mustParse(t, "r.io/a:old"), Platforms{}, nil); !errors.Is(err, ErrSchema1) {
		t.Error(err)
	}
}

func TestResolveWithoutTag(t *testing.T) {
	host, _ := hostAndOther()
	denied := fmt.Errorf("tags: %w", ErrUnauthorized)
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("build-%02d", i))
	}
	tests := []struct {
		name  string
		tags  [][]string
		fail  error
		want  string
		err   error
		texts []string
	}{
		{"latest", [][]string{{"latest", "9.9.9"}}, nil, "latest", nil, nil},
		{"newest", [][]string{{"1.2.3", "1.10.0", "stable"}, {"1.9", "v1.4"}}, nil, "1.10.0", nil, []string{"r.io/a has no tag latest; taking 1.10.0, the newest version"}},
		{"most exact", [][]string{{"2", "2.1", "2.1.0", "v2.1.0"}}, nil, "2.1.0", nil, nil},
		{"no pre-release", [][]string{{"2.0.0-rc.1", "1.0.0", "3.0-alpine"}}, nil, "1.0.0", nil, nil},
		{"only pre-releases", [][]string{{"2.0.0-rc.1", "2.0.0-rc.10", "2.0.0-beta"}}, nil, "2.0.0-rc.10", nil, nil},
		{"dates are no versions", [][]string{{"20240131", "1.4"}}, nil, "1.4", nil, nil},
		{"only dates", [][]string{{"20240131", "20240201", "x"}}, nil, "20240201", nil, nil},
		{"no versions", [][]string{{"stable", "edge", "bad\x1b[1m"}}, nil, "", ErrNotFound, []string{"no tag is a version; write one of: stable, edge"}},
		{"many tags", [][]string{many}, nil, "", ErrNotFound, []string{"build-00", "build-19 and 10 more"}},
		{"no tags", nil, nil, "", ErrNotFound, []string{"r.io/a:latest: get manifest latest: manifest unknown"}},
		{"no repository", nil, fmt.Errorf("name unknown: %w", ErrNotFound), "", ErrNotFound, []string{"manifest unknown"}},
		{"tags denied", nil, denied, "", ErrUnauthorized, []string{"there is no tag latest; list tags: tags: not authorized"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory()
			for _, page := range tt.tags {
				m.image(host, page...)
			}
			var said events
			img, err := Resolve(context.Background(), tagged{m, tt.tags, tt.fail}, mustParse(t, "r.io/a"), Platforms{}, said.send)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) || img.Reference.Tag != tt.want {
				t.Fatalf("tag %q, %v; want %q, %v", img.Reference.Tag, err, tt.want, tt.err)
			}
			text := said.texts(EventNote)
			if err != nil {
				text = err.Error()
			}
			for _, want := range tt.texts {
				if !strings.Contains(text, want) {
					t.Errorf("%q; want %q", text, want)
				}
			}
			text, _, _ = strings.Cut(text, "\n") // what it is for comes behind
			if strings.ContainsAny(text, "\x1b\n") || strings.Contains(text, "build-20") {
				t.Errorf("%q", text)
			}
		})
	}

	m := newMemory()
	m.image(host, "1.0")
	if _, err := Resolve(context.Background(), m, mustParse(t, "r.io/a"), Platforms{}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a source that lists no tags: %v", err)
	}
	if _, err := Resolve(context.Background(), tagged{m, [][]string{{"1.0"}}, nil}, mustParse(t, "r.io/a:latest"), Platforms{}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("latest was asked for by name: %v", err)
	}
}

// What a source gives is verified again, and its own errors come through.
func TestResolveConfig(t *testing.T) {
	host, _ := hostAndOther()
	type send = func(ctx context.Context, b []byte) ([]byte, error)
	fails := func(err error) send {
		return func(context.Context, []byte) ([]byte, error) { return nil, err }
	}
	for name, tt := range map[string]struct {
		send send
		err  error
	}{
		"right":       {func(_ context.Context, b []byte) ([]byte, error) { return b, nil }, nil},
		"wrong bytes": {func(_ context.Context, b []byte) ([]byte, error) { return bytes.ToUpper(b), nil }, ErrVerification},
		"longer":      {func(_ context.Context, b []byte) ([]byte, error) { return append(bytes.Clone(b), 'x'), nil }, ErrVerification},
		"shorter":     {func(_ context.Context, b []byte) ([]byte, error) { return b[1:], nil }, ErrVerification},
		"nothing":     {func(context.Context, []byte) ([]byte, error) { return nil, nil }, ErrVerification},
		"not found":   {fails(ErrNotFound), ErrNotFound},
		"denied":      {fails(ErrUnauthorized), ErrUnauthorized},
		"cancelled":   {func(ctx context.Context, _ []byte) ([]byte, error) { return nil, ctx.Err() }, context.Canceled},
	} {
		m := newMemory()
		m.image(host, "1")
		m.send = tt.send
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // only a source that looks at it minds
		img, err := Resolve(ctx, m, mustParse(t, "r.io/a:1"), Platforms{}, nil)
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v; want %v", name, err, tt.err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "r.io/a:1: fetch config sha256:") {
			t.Errorf("%s: %v; want it to name the image and the step", name, err)
		}
		if err == nil && CheckBytes(img.Manifests[0].Config.Descriptor, img.Manifests[0].Config.Bytes) != nil {
			t.Errorf("%s: the config is wrong", name)
		}
	}
}

func TestOlderARM(t *testing.T) {
	var got []string
	for _, p := range olderARM(Platform{OS: "linux", Architecture: "arm", Variant: "v7"}) {
		got = append(got, FormatPlatform(p))
	}
	if strings.Join(got, " ") != "linux/arm/v6 linux/arm/v5" {
		t.Errorf("older than v7: %v", got)
	}
	if got := olderARM(Platform{OS: "linux", Architecture: "arm64"}); got != nil {
		t.Errorf("older than arm64: %v", got)
	}
}
