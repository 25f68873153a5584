package verify_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/verify"
)

// saved is twoLayers as docker save wrote it up to Docker 24: plain layers, the
// second of two equal ones as a link to the first.
func saved(t *testing.T) ([]member, registrytest.Pushed) {
	p := registrytest.Build(twoLayers())
	config := p.Config.Digest.Encoded() + ".json"
	return []member{
		file("aa/VERSION", "1.0"), file("aa/json", "{}"), file("aa/layer.tar", string(tarOfLayer(t, p.LayerBytes(0)))),
		file("bb/layer.tar", string(tarOfLayer(t, p.LayerBytes(1)))),
		link("cc/layer.tar", "../aa/layer.tar"),
		file(config, string(p.ConfigBytes)),
		file("manifest.json", fmt.Sprintf(`[{"Config":%q,"RepoTags":["app:v1"],"Layers":["aa/layer.tar","bb/layer.tar","cc/layer.tar"]}]`, config)),
		file("repositories", `{}`),
	}, p
}

// craned is the same as crane pull writes it.
func craned(t *testing.T) ([]member, registrytest.Pushed) {
	p := registrytest.Build(twoLayers())
	a, b := p.Layers[0].Digest.Encoded()+".tar.gz", p.Layers[1].Digest.Encoded()+".tar.gz"
	return []member{
		file(p.Config.Digest.String(), string(p.ConfigBytes)),
		file(a, string(p.LayerBytes(0))), file(b, string(p.LayerBytes(1))),
		file("manifest.json", fmt.Sprintf(`[{"Config":%q,"RepoTags":["app:v1"],"Layers":[%q,%q,%q]}]`, p.Config.Digest, a, b, a)),
	}, p
}

func TestClassicFaults(t *testing.T) {
	all, p := saved(t)
	crane, _ := craned(t)
	config := p.Config.Digest.Encoded() + ".json"
	layer := p.Layers[1].Digest.Encoded() + ".tar.gz"
	same := func(all []member) []member { return all }
	for _, tt := range []struct {
		name   string
		all    []member
		change func([]member) []member
		takes  bool
		wants  []want
	}{
		{"docker save", all, same, true, nil},
		{"crane pull", crane, same, true, nil},
		{"compressed layers in docker save's places", all, body(t, "bb/layer.tar", func([]byte) []byte { return p.LayerBytes(1) }), true, nil},
		{"a layer named by its diffID", crane, func(all []member) []member {
			name := p.DiffIDs[1].Encoded() + ".tar.gz"
			all[2].Name = name
			return body(t, "manifest.json", replace(t, layer, name))(all)
		}, true, nil},
		{"other names", crane, func(all []member) []member {
			all[0].Name, all[2].Name = "config.json", "second.tgz"
			all = body(t, "manifest.json", replace(t, p.Config.Digest.String(), "config.json"))(all)
			return body(t, "manifest.json", replace(t, layer, "second.tgz"))(all)
		}, true, nil},

		{"a flipped byte in a layer", all, body(t, "bb/layer.tar", flip(600)), false,
			[]want{{verify.DiffID, "bb/layer.tar", "the config says " + p.DiffIDs[1].String()}}},
		{"a flipped byte in the header of a layer's tar", all, body(t, "bb/layer.tar", flip(100)), false,
			[]want{{verify.DiffID, "bb/layer.tar", "the config says " + p.DiffIDs[1].String()}}},
		{"a flipped byte in a layer that is there twice", all, body(t, "aa/layer.tar", flip(1024)), false,
			[]want{{verify.DiffID, "aa/layer.tar", "the config says " + p.DiffIDs[0].String()}}},
		{"a missing layer", all, without(t, "bb/layer.tar"), false,
			[]want{{verify.Missing, "bb/layer.tar", "which manifest.json names"}}},
		{"a link to nothing", all, without(t, "aa/layer.tar"), false,
			[]want{{verify.Missing, "aa/layer.tar", "not there"}, {verify.Missing, "cc/layer.tar", "not there"}}},
		{"a link out of the archive", all, func(all []member) []member {
			all[4].Linkname = "../../../etc/passwd"
			return all
		}, false, []want{{verify.Unreadable, "cc/layer.tar", "link out of the tar"}}},
		{"links in a circle", all, func(all []member) []member {
			all[4].Linkname = "layer.tar"
			return all
		}, false, []want{{verify.Unreadable, "cc/layer.tar", "link"}}},
		{"a changed config", all, body(t, config, replace(t, "amd64", "arm64")), false,
			[]want{{verify.Digest, config, "another digest"}}},
		{"a missing config", all, without(t, config), false,
			[]want{{verify.Missing, config, "the config"}}},
		{"a layer less", all, body(t, "manifest.json", replace(t, `,"cc/layer.tar"`, "")), false,
			[]want{{verify.DiffID, config, "has 3 diff_ids, and there are 2 layers"}}},
		{"layers in another order", all, body(t, "manifest.json", replace(t, `"bb/layer.tar","cc`, `"cc/layer.tar","bb`)), false,
			[]want{{verify.DiffID, "aa/layer.tar", "the config says"}, {verify.DiffID, "bb/layer.tar", "the config says"}}},
		{"a flipped byte where crane's layer is compressed", crane, body(t, layer, flip(30)), false,
			[]want{{verify.Digest, layer, "another digest"}}},
		{"a flipped byte in its gzip header", crane, body(t, layer, flip(4)), false,
			[]want{{verify.Digest, layer, "another digest"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir() + "/image.tar"
			changed := append([]member{}, tt.all...)
			write(t, path, tarOf(t, tt.change(changed)))
			r := check(t, path)
			wantProblems(t, r, tt.wants...)
			wantTakes(t, r, tt.takes, tt.takes, tt.takes)
		})
	}
}

func TestClassicImages(t *testing.T) {
	all, p := saved(t)
	path := t.TempDir() + "/image.tar"
	write(t, path, tarOf(t, body(t, "manifest.json", replace(t, `"app:v1"`, `"app:v1","example.com/app:v2"`))(all)))
	r := check(t, path)
	want := []verify.Image{
		{Name: "app:v1", ID: p.Config.Digest, Platforms: []string{"linux/amd64"}},
		{Name: "example.com/app:v2", ID: p.Config.Digest, Platforms: []string{"linux/amd64"}},
	}
	if diff := cmp.Diff(want, r.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
}

func TestClassicWithoutNames(t *testing.T) {
	all, _ := saved(t)
	path := t.TempDir() + "/image.tar"
	write(t, path, tarOf(t, body(t, "manifest.json", replace(t, `["app:v1"]`, "null"))(all)))
	r := check(t, path)
	wantProblems(t, r)
	wantTakes(t, r, true, false, true)
	wantNote(t, r, "no image has a name")
}
