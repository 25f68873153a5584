package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// plain is an image whose layers are not compressed, as docker save has them.
func plain(seed string) registrytest.Pushed {
	return registrytest.Build(registrytest.Image{Docker: true, Layers: []registrytest.Layer{
		{Files: []registrytest.File{registrytest.Text("base", "base")}, Compression: registrytest.None},
		{Files: []registrytest.File{registrytest.Text("top", seed)}, Compression: registrytest.None},
	}})
}

// dockerSave is an archive as docker save wrote it up to version 24, of two
// images on the same lowest layer.
func dockerSave(t testing.TB) []byte {
	one, two := plain("one"), plain("two")
	return tarOf(t,
		file{name: "repositories", content: "{}"}, file{name: "1/"}, file{name: "1/VERSION", content: "1.0"}, file{name: "1/json", content: "{}"},
		file{name: "1/layer.tar", content: string(one.LayerBytes(0))},
		file{name: "2/layer.tar", content: string(one.LayerBytes(1))},
		file{name: "3/layer.tar", link: "../1/layer.tar"},
		file{name: "4/layer.tar", content: string(two.LayerBytes(1))},
		file{name: one.Config.Digest.Encoded() + ".json", content: string(one.ConfigBytes)},
		file{name: two.Config.Digest.Encoded() + ".json", content: string(two.ConfigBytes)},
		file{name: "manifest.json", content: `[
			{"Config":"` + one.Config.Digest.Encoded() + `.json","RepoTags":["alpine:3","localhost/x:1","<none>:<none>"],"Layers":["1/layer.tar","2/layer.tar"]},
			{"Config":"` + two.Config.Digest.Encoded() + `.json","RepoTags":null,"Layers":["3/layer.tar","4/layer.tar"]}]`})
}

func TestOpenDockerSave(t *testing.T) {
	one, two := plain("one"), plain("two")
	r := opened(t, dockerSave(t))
	if diff := cmp.Diff([]string{"docker.io/library/alpine:3 ", "localhost/x:1 ", " <none>:<none>", " "}, listing(r)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	images := r.Images()
	for i, want := range []registrytest.Pushed{one, one, one, two} {
		if !images[i].Made || images[i].MediaType != image.MediaTypeDockerManifest {
			t.Errorf("image %d: %+v", i+1, images[i])
		}
		checkImage(t, r, images[i], want)
	}
	c, err := r.Manifest(t.Context(), images[3].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(c.Bytes, &m); err != nil {
		t.Fatal(err)
	}
	if m.Config.Digest != two.Config.Digest || m.Config.Size != two.Config.Size || m.Config.MediaType != image.MediaTypeDockerConfig {
		t.Errorf("config: %+v", m.Config)
	}
	for i, d := range m.Layers {
		if d.Digest != two.DiffIDs[i] || d.MediaType != image.MediaTypeDockerLayer || d.Size != two.Layers[i].Size {
			t.Errorf("layer %d: %+v", i+1, d)
		}
	}
	// The same archive gives the same manifests, whatever it is called.
	again := opened(t, dockerSave(t))
	if diff := cmp.Diff(images, again.Images()); diff != "" {
		t.Errorf("opened again (-first +second):\n%s", diff)
	}
	absent := image.Descriptor{Digest: digest.FromString("x"), Size: 1}
	if _, err := r.Manifest(t.Context(), absent.Digest.String()); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a manifest that is not there: %v", err)
	}
	if _, err := r.Blob(t.Context(), absent); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a blob that is not there: %v", err)
	}
	wrong := m.Layers[0]
	wrong.Size++
	if _, err := r.OpenRange(t.Context(), wrong, 0, 1); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a layer of another size: %v", err)
	}
}

// cranePull is an archive as crane pull writes it: the layers as the registry
// gave them, each once.
func cranePull(t testing.TB, p registrytest.Pushed) []byte {
	var files []file
	var layers []string
	seen := map[digest.Digest]bool{}
	for i, d := range p.Layers {
		name := d.Digest.Encoded() + ".tar.gz"
		layers = append(layers, name)
		if !seen[d.Digest] {
			files = append(files, file{name: name, content: string(p.LayerBytes(i))})
		}
		seen[d.Digest] = true
	}
	b, err := json.Marshal([]DockerImage{{Config: p.Config.Digest.String(), RepoTags: []string{"registry.example/app:1"}, Layers: layers}})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, append([]file{{name: p.Config.Digest.String(), content: string(p.ConfigBytes)}},
		append(files, file{name: "manifest.json", content: string(b)})...)...)
}

func TestOpenCompressedLayers(t *testing.T) {
	p := built("one") // gzip, zstd and the first one again
	r := opened(t, cranePull(t, p))
	if diff := cmp.Diff([]string{"registry.example/app:1 "}, listing(r)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	checkImage(t, r, r.Images()[0], p)
	c, err := r.Manifest(t.Context(), r.Images()[0].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.ParseManifest(c)
	if err != nil {
		t.Fatal(err)
	}
	types := []string{image.MediaTypeDockerLayerGzip, image.MediaTypeDockerLayerZstd, image.MediaTypeDockerLayerGzip}
	for i, d := range m.Layers {
		if d.Digest != p.Layers[i].Digest || d.Size != p.Layers[i].Size || d.MediaType != types[i] {
			t.Errorf("layer %d: %+v, want %s", i+1, d, p.Layers[i].Digest)
		}
	}
}

func TestAPlainLayerIsItsReadersToVerify(t *testing.T) {
	p := plain("one")
	b := bytes.Replace(dockerSave(t), p.LayerBytes(1), bytes.Repeat([]byte("x"), int(p.Layers[1].Size)), 1)
	r := opened(t, b)
	got, err := readBlob(r, p.Layers[1])
	if err != nil || len(got) != int(p.Layers[1].Size) {
		t.Errorf("OpenRange: %d bytes, %v", len(got), err)
	}
	if _, err := r.Blob(t.Context(), p.Layers[1]); !errors.Is(err, image.ErrVerification) {
		t.Errorf("Blob of wrong bytes: %v", err)
	}
}

func TestAnEmptyIndexGivesWayToManifestJSON(t *testing.T) {
	p := plain("one")
	b := layoutOf(t, indexOf(),
		file{name: "manifest.json", content: `[{"Config":"c","RepoTags":["a"],"Layers":["0","1"]}]`},
		file{name: "c", content: string(p.ConfigBytes)}, file{name: "0", content: string(p.LayerBytes(0))}, file{name: "1", content: string(p.LayerBytes(1))})
	r := opened(t, b)
	if diff := cmp.Diff([]string{"docker.io/library/a:latest "}, listing(r)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	checkImage(t, r, r.Images()[0], p)
}

func TestArchivesThatCannotBeOpened(t *testing.T) {
	p := plain("one")
	config := file{name: "c.json", content: string(p.ConfigBytes)}
	layers := []file{{name: "0", content: string(p.LayerBytes(0))}, {name: "1", content: string(p.LayerBytes(1))}}
	docker := func(manifest string, files ...file) []byte {
		return tarOf(t, append(files, file{name: "manifest.json", content: manifest})...)
	}
	whole := `[{"Config":"c.json","Layers":["0","1"]}]`
	for name, tt := range map[string]struct {
		b    []byte
		want error
		text string
	}{
		"empty":                  {nil, image.ErrVerification, "it is empty"},
		"short":                  {[]byte("hello\n"), image.ErrVerification, "verification failed: it is no tar: it ends at byte 6, within the first header"},
		"text":                   {bytes.Repeat([]byte("hello\n"), 1000), image.ErrVerification, "verification failed: it is no tar: archive/tar"},
		"text in gzip":           {zipped(t, []byte("no tar at all"))["gzip"], image.ErrVerification, "what it decompresses to is no tar: it ends at byte 13"},
		"nothing in gzip":        {zipped(t, nil)["gzip"], image.ErrVerification, "what it decompresses to is no tar: nothing is in it"},
		"bzip2":                  {[]byte("BZh91AY&SY"), image.ErrVerification, "bzip2"},
		"zeros":                  {make([]byte, 10240), ErrNoArchive, "neither index.json nor manifest.json"},
		"no image":               {tarOf(t, file{name: "etc/motd", content: "x"}), ErrNoArchive, "neither index.json nor manifest.json"},
		"no image, no end":       {tarOf(t, file{name: "etc/motd", content: "x"})[:1024], image.ErrVerification, "it is cut off"},
		"outside":                {tarOf(t, file{name: "../index.json", content: indexOf()}, file{name: "/manifest.json", content: whole}), ErrNoArchive, "neither"},
		"no images":              {docker(`[]`), ErrNoArchive, "empty"},
		"null":                   {docker(`null`), ErrNoArchive, "empty"},
		"index without images":   {layoutOf(t, indexOf()), ErrNoArchive, "empty"},
		"index of a wrong type":  {layoutOf(t, `{"manifests":{"digest":1}}`), image.ErrVerification, "index.json"},
		"index of another":       {layoutOf(t, `[1]`), image.ErrVerification, "index.json"},
		"index that is a link":   {tarOf(t, file{name: "index.json", link: "index.json"}), image.ErrVerification, "index.json"},
		"index that leads out":   {tarOf(t, file{name: "index.json", link: "../../etc/passwd"}), image.ErrVerification, "out of the tar"},
		"wrong digest":           {layoutOf(t, indexOf(`{"digest":"sha256:../../../x","size":1}`)), image.ErrVerification, "index.json"},
		"negative size":          {layoutOf(t, indexOf(`{"digest":"`+p.Config.Digest.String()+`","size":-1}`)), image.ErrVerification, "negative size"},
		"two sizes":              {layoutOf(t, indexOf(listed(p, ``), strings.Replace(listed(p, ``), `"size":`, `"size":1`, 1))), image.ErrVerification, "two sizes"},
		"no JSON":                {docker(`[{]`), image.ErrVerification, "manifest.json"},
		"wrong types":            {docker(`[{"Config":["c.json"],"Layers":"0"}]`), image.ErrVerification, "manifest.json"},
		"object":                 {docker(`{"Config":"c.json"}`), image.ErrVerification, "manifest.json"},
		"no config":              {docker(`[{"Layers":["0"]}]`), image.ErrVerification, "image 1 has no config"},
		"null image":             {docker(`[null]`), image.ErrVerification, "image 1 has no config"},
		"too large":              {docker(whole + strings.Repeat(" ", maxDockerManifest)), image.ErrVerification, "more than"},
		"too many images":        {docker(`[` + strings.Repeat(`{"Config":"c"},`, image.MaxDescriptors) + `{"Config":"c"}]`), image.ErrVerification, "4097 images"},
		"too many layers":        {docker(`[{"Config":"c","Layers":[` + strings.Repeat(`"0",`, image.MaxDescriptors) + `"0"]}]`), image.ErrVerification, "4097 layers"},
		"too many tags":          {docker(`[{"Config":"c","RepoTags":[` + strings.Repeat(`"a",`, maxDockerNames) + `"a"]}]`), image.ErrVerification, "tags and layers"},
		"missing config":         {docker(whole, layers...), image.ErrNotFound, `config "c.json"`},
		"missing layer":          {docker(whole, config, layers[0]), image.ErrNotFound, `layer "1"`},
		"config that leads out":  {docker(`[{"Config":"../c.json","Layers":["0","1"]}]`, layers...), image.ErrNotFound, `config "../c.json"`},
		"absolute config":        {docker(`[{"Config":"/etc/passwd","Layers":["0","1"]}]`, layers...), image.ErrNotFound, `config "/etc/passwd"`},
		"layer that is a loop":   {docker(whole, config, layers[0], file{name: "1", link: "2"}, file{name: "2", link: "1"}), image.ErrVerification, "without end"},
		"layer that is no file":  {docker(`[{"Config":"c.json","Layers":["0","d"]}]`, config, layers[0], file{name: "d/"}), image.ErrVerification, "no regular file"},
		"layer of xz":            {docker(whole, config, layers[0], file{name: "1", content: "\xfd7zXZ\x00rest"}), image.ErrVerification, "xz"},
		"layers of one diffID":   {docker(`[{"Config":"c","Layers":["0","1"]}]`, append(layers, file{name: "c", content: `{"rootfs":{"diff_ids":["` + p.DiffIDs[0].String() + `","` + p.DiffIDs[0].String() + `"]}}`})...), nil, ""},
		"and of two sizes":       {docker(`[{"Config":"c","Layers":["0","1"]}]`, layers[0], file{name: "1", content: "x"}, file{name: "c", content: `{"rootfs":{"diff_ids":["` + p.DiffIDs[0].String() + `","` + p.DiffIDs[0].String() + `"]}}`}), image.ErrVerification, "two sizes"},
		"too few layers":         {docker(`[{"Config":"c.json","Layers":["0"]}]`, config, layers[0]), image.ErrVerification, "1 layers, but its config has 2 diff_ids"},
		"too many for config":    {docker(`[{"Config":"c.json","Layers":["0","1","1"]}]`, config, layers[0], layers[1]), image.ErrVerification, "3 layers"},
		"config that is no JSON": {docker(whole, file{name: "c.json", content: "no"}, layers[0], layers[1]), image.ErrVerification, "config"},
		"config of wrong types":  {docker(whole, file{name: "c.json", content: `{"rootfs":{"diff_ids":7}}`}, layers[0], layers[1]), image.ErrVerification, "config"},
		"config too large":       {docker(whole, file{name: "c.json", content: strings.Repeat(" ", image.MaxConfigSize+1)}), image.ErrVerification, "more than"},
		"diffIDs that are none":  {docker(whole, file{name: "c.json", content: `{"rootfs":{"diff_ids":["sha256:x","../x"]}}`}, layers[0], layers[1]), image.ErrVerification, "layer 1"},
	} {
		path := saved(t, tt.b)
		r, err := Open(t.Context(), path, OpenOptions{})
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			r.Close()
			continue
		}
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), "open archive "+path+": ") {
			t.Errorf("%s: %v\nwant an error that wraps %q and has %q", name, err, tt.want, tt.text)
		}
	}
	if _, err := Open(t.Context(), t.TempDir(), OpenOptions{}); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Open(t.Context(), saved(t, nil)+".no", OpenOptions{}); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
}
