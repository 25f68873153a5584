package cli_test

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

const imageUsage = `usage:
	image push NAME REPOSITORY:TAG [WORD…]    an image
	image index NAME REPOSITORY:TAG platforms=P,P… [attestations] [WORD…]
	                                          an index of images that differ by platform
	image tree NAME REPOSITORY:TAG FILE,FILE… [WORD…]
	                                          an image whose layers are described by files:
	                                          a line "dir NAME", "file NAME TEXT", "link NAME TARGET",
	                                          "symlink NAME TARGET", "random NAME SIZE", "device NAME" each,
	                                          or "mode NAME OCTAL" of the entry before
	image raw NAME REPOSITORY:TAG TYPE FILE   any bytes as a manifest, $VARIABLES expanded
	image blob NAME FILE                      any bytes as a blob; $BLOB is its digest
	image many NAME REPOSITORY:TAG N             an image with N layers
	image tags NAME REPOSITORY:TAG TAG… [many=N]  further tags for what the tag names; of many, tag-00000 and so on
	image referrer NAME REPOSITORY SUBJECT_DIGEST ARTIFACT_TYPE [annotation=K:V] [tag=TAG [untold]] [fallback]
	                                          an artifact that refers to an image; $REFERRER is its digest.
	                                          untold: only the tag says so, as cosign's do;
	                                          fallback: it is listed under the referrers tag too
words:
	layers=1M,64K    layers of incompressible bytes (default 64K); the same size is the same layer
	layers=2Kx9      nine layers, each larger by a block than the one before
	seed=N           other layers than those of the same sizes
	platform=P       (default linux on this machine's architecture)
	zstd, plain      the layers' compression (default gzip)
	estargz, zstdchunked   layers with a table of contents, in chunks of 64 KiB
	docker           Docker's media types
	label=KEY:VALUE  of the config
	sha512           digests
	foreign=URL,URL  the first layer is foreign: it has these URLs, and the registry has not got it
	held             … but the registry has it all the same
sets $DIGEST (what the tag names), $MANIFEST, $CONFIG, $LAYER0, $LAYER1, … and
their sizes $MANIFEST_SIZE, … and digits $MANIFEST_HEX, … For an index: of the first image, and for each
image $MANIFEST0, $MANIFEST1, …`

// lastPushed is the image pushed last, for faults.
type lastPushed struct {
	image registrytest.Pushed
	index *registrytest.PushedIndex
}

// part is the digest and content of a part of the image: layer0, config, manifest, index.
func (l lastPushed) part(ts *testscript.TestScript, what string) (digest.Digest, []byte) {
	var n int
	switch _, err := fmt.Sscanf(what, "layer%d", &n); {
	case err == nil && n < len(l.image.Layers):
		return l.image.Layers[n].Digest, l.image.LayerBytes(n)
	case what == "config":
		return l.image.Config.Digest, l.image.ConfigBytes
	case what == "manifest":
		return l.image.Manifest.Digest, l.image.ManifestBytes
	case what == "index" && l.index != nil:
		return l.index.Index.Digest, l.index.Bytes
	}
	ts.Fatalf("the image pushed last has no %s", what)
	return "", nil
}

func imageCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf(imageUsage)
	}
	s := stateOf(ts)
	verb, name, args := args[0], args[1], args[2:]
	r, ok := s.registries[name]
	if !ok {
		ts.Fatalf("no registry %q was started", name)
	}
	if verb == "blob" {
		content := ts.ReadFile(args[0])
		d := r.AddBlob([]byte(content))
		ts.Setenv("BLOB", d.Digest.String())
		ts.Setenv("BLOB_SIZE", fmt.Sprint(d.Size))
		ts.Setenv("BLOB_HEX", d.Digest.Encoded())
		return
	}
	repository, tag := args[0], ""
	if i := strings.LastIndexByte(repository, ':'); i >= 0 {
		repository, tag = repository[:i], repository[i+1:]
	}
	switch verb {
	case "push":
		rest := options(args[1:])
		img := imageOf(ts, rest)
		unknown(ts, rest)
		p := r.Push(repository, tag, img)
		s.last = lastPushed{image: p}
		s.images[args[0]] = p.Size()
		ts.Setenv("DIGEST", p.Manifest.Digest.String())
		setImage(ts, p)
	case "index":
		rest := options(args[1:])
		platforms, _ := take(rest, "platforms")
		var x registrytest.Index
		_, x.Attestations = take(rest, "attestations")
		common := imageOf(ts, rest)
		unknown(ts, rest)
		for _, p := range strings.Split(platforms, ",") {
			img := common
			img.Platform = platformOf(ts, p)
			x.Images = append(x.Images, img)
		}
		x.Docker = common.Docker
		p := r.PushIndex(repository, tag, x)
		s.last = lastPushed{image: p.Images[0], index: &p}
		s.images[args[0]] = p.Images[0].Size()
		ts.Setenv("DIGEST", p.Index.Digest.String())
		setImage(ts, p.Images[0])
		for i, img := range p.Images {
			ts.Setenv(fmt.Sprintf("MANIFEST%d", i), img.Manifest.Digest.String())
			ts.Setenv(fmt.Sprintf("MANIFEST%d_HEX", i), img.Manifest.Digest.Encoded())
		}
	case "tree":
		rest := options(args[2:])
		img := imageOf(ts, rest)
		common := img.Layers[0]
		unknown(ts, rest)
		img.Layers = nil
		for _, file := range strings.Split(args[1], ",") {
			img.Layers = append(img.Layers, registrytest.Layer{Files: describedFiles(ts, file), Compression: common.Compression, Chunked: common.Chunked})
		}
		first := &img.Layers[0]
		first.URLs, first.MediaType, first.Absent = common.URLs, common.MediaType, common.Absent
		p := r.Push(repository, tag, img)
		s.last = lastPushed{image: p}
		s.images[args[0]] = p.Size()
		ts.Setenv("DIGEST", p.Manifest.Digest.String())
		setImage(ts, p)
	case "raw":
		if len(args) != 3 {
			ts.Fatalf(imageUsage)
		}
		raw := os.Expand(ts.ReadFile(args[2]), ts.Getenv)
		d := r.PushRaw(repository, tag, args[1], []byte(raw))
		ts.Setenv("DIGEST", d.Digest.String())
		ts.Setenv("MANIFEST_SIZE", fmt.Sprint(d.Size))
	case "tags":
		tagMany(ts, r, repository, tag, args[1:])
	case "referrer":
		if len(args) < 3 {
			ts.Fatalf(imageUsage)
		}
		pushReferrer(ts, r, repository, digest.Digest(args[1]), args[2], options(args[3:]))
	case "many":
		if len(args) != 2 {
			ts.Fatalf(imageUsage)
		}
		config, layer := r.AddBlob([]byte("{}")), r.AddBlob([]byte("layer"))
		config.MediaType = ocispec.MediaTypeImageConfig
		layer.MediaType = ocispec.MediaTypeImageLayer
		r.PushRaw(repository, tag, ocispec.MediaTypeImageManifest, manifestOf(config, layer, int(size(ts, args[1]))))
	default:
		ts.Fatalf(imageUsage)
	}
}

func tagMany(ts *testscript.TestScript, r *testRegistry, repository, tag string, args []string) {
	rest := options(args)
	if v, ok := take(rest, "many"); ok {
		for i := range size(ts, v) {
			rest[fmt.Sprintf("tag-%05d", i)] = ""
		}
	}
	r.PushTags(repository, tag, slices.Sorted(maps.Keys(rest))...)
}

func pushReferrer(ts *testscript.TestScript, r *testRegistry, repository string, subject digest.Digest, artifactType string, rest map[string]string) {
	x := registrytest.Referrer{Subject: subject, ArtifactType: artifactType}
	if v, ok := take(rest, "annotation"); ok {
		key, value, _ := strings.Cut(v, ":")
		x.Annotations = map[string]string{key: value}
	}
	x.Tag, _ = take(rest, "tag")
	_, x.Untold = take(rest, "untold")
	_, fallback := take(rest, "fallback")
	unknown(ts, rest)
	d := r.PushReferrer(repository, x)
	if fallback {
		r.PushReferrersTag(repository, subject)
	}
	ts.Setenv("REFERRER", d.Digest.String())
	ts.Setenv("REFERRER_SIZE", fmt.Sprint(d.Size))
}

func imageOf(ts *testscript.TestScript, rest map[string]string) registrytest.Image {
	img := registrytest.Image{Platform: platformOf(ts, hostPlatform())}
	if v, ok := take(rest, "platform"); ok {
		img.Platform = platformOf(ts, v)
	}
	_, img.Docker = take(rest, "docker")
	if _, ok := take(rest, "sha512"); ok {
		img.Algorithm = digest.SHA512
	}
	if v, ok := take(rest, "label"); ok {
		key, value, _ := strings.Cut(v, ":")
		img.Config.Labels = map[string]string{key: value}
	}
	compression := registrytest.Gzip
	if _, ok := take(rest, "zstd"); ok {
		compression = registrytest.Zstd
	}
	if _, ok := take(rest, "plain"); ok {
		compression = registrytest.None
	}
	var chunked registrytest.Chunked
	if _, ok := take(rest, "estargz"); ok {
		chunked = registrytest.EStargz
	}
	if _, ok := take(rest, "zstdchunked"); ok {
		chunked = registrytest.ZstdChunked
	}
	seed := uint64(0)
	if v, ok := take(rest, "seed"); ok {
		seed = uint64(size(ts, v)) << 40
	}
	layers, ok := take(rest, "layers")
	if !ok {
		layers = "64K"
	}
	for _, l := range strings.Split(layers, ",") {
		l, times, _ := strings.Cut(l, "x")
		for i := range max(1, size(ts, "0"+times)) {
			n := size(ts, l) + 512*i
			layer := registrytest.RandomLayer(seed+uint64(n), n)
			layer.Compression, layer.Chunked = compression, chunked
			img.Layers = append(img.Layers, layer)
		}
	}
	if v, ok := take(rest, "foreign"); ok {
		_, held := take(rest, "held")
		img.Layers[0] = foreign(img.Layers[0], img.Docker, strings.Split(v, ","))
		img.Layers[0].Absent = !held
	}
	return img
}

// foreign is the layer with URLs, and with the media type of such layers.
func foreign(l registrytest.Layer, docker bool, urls []string) registrytest.Layer {
	l.URLs = urls
	l.MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar" +
		map[registrytest.Compression]string{registrytest.Gzip: "+gzip", registrytest.Zstd: "+zstd"}[l.Compression]
	if docker {
		l.MediaType = image.MediaTypeDockerForeignLayer
	}
	return l
}

// describedFiles are the entries that a text describes.
func describedFiles(ts *testscript.TestScript, file string) []registrytest.File {
	var files []registrytest.File
	for _, line := range strings.Split(ts.ReadFile(file), "\n") {
		kind, rest, _ := strings.Cut(line, " ")
		name, value, _ := strings.Cut(rest, " ")
		switch kind {
		case "":
		case "dir":
			files = append(files, registrytest.Dir(name))
		case "file":
			files = append(files, registrytest.Text(name, value))
		case "link":
			files = append(files, registrytest.Hardlink(name, value))
		case "symlink":
			files = append(files, registrytest.Symlink(name, value))
		case "random":
			size, err := strconv.Atoi(value)
			ts.Check(err)
			files = append(files, registrytest.File{Header: tar.Header{Name: name}, Body: registrytest.RandomBytes(1, size)})
		case "mode":
			mode, err := strconv.ParseInt(value, 8, 64)
			ts.Check(err)
			if len(files) == 0 || files[len(files)-1].Name != name {
				ts.Fatalf("%s: %q is not the entry before", file, name)
			}
			files[len(files)-1].Mode = mode
		case "device":
			files = append(files, registrytest.File{Header: tar.Header{Name: name, Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}})
		default:
			ts.Fatalf("%s: no kind of file: %q", file, line)
		}
	}
	return files
}

// hostPlatform is this machine's, as an image's author writes it.
func hostPlatform() string {
	if runtime.GOARCH == "arm" {
		return "linux/arm/v7"
	}
	return "linux/" + runtime.GOARCH
}

// platformOf reads os[(version)]/arch[/variant].
func platformOf(ts *testscript.TestScript, s string) image.Platform {
	parts := strings.Split(s, "/")
	if len(parts) < 2 {
		ts.Fatalf("platform %q: want os/arch", s)
	}
	p := image.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	if i := strings.IndexByte(p.OS, '('); i >= 0 {
		p.OSVersion = strings.TrimSuffix(p.OS[i+1:], ")")
		p.OS = p.OS[:i]
	}
	return p
}

func setImage(ts *testscript.TestScript, p registrytest.Pushed) {
	set := func(name string, d image.Descriptor) {
		ts.Setenv(name, d.Digest.String())
		ts.Setenv(name+"_SIZE", fmt.Sprint(d.Size))
		ts.Setenv(name+"_HEX", d.Digest.Encoded())
	}
	set("MANIFEST", p.Manifest)
	set("CONFIG", p.Config)
	for i, d := range p.Layers {
		set(fmt.Sprintf("LAYER%d", i), d)
	}
}

// manifestOf is a manifest with n layers that are all the same blob.
func manifestOf(config, layer image.Descriptor, n int) []byte {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config}
	m.SchemaVersion = 2
	for range n {
		m.Layers = append(m.Layers, layer)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raw
}
