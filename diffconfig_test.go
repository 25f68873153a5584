package davit

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit/image"
)

// Nothing that a container runs by is different without being told.
func TestDiffConfigs(t *testing.T) {
	manifest := func(config string) image.Manifest {
		return image.Manifest{Config: image.Content{
			Descriptor: image.Descriptor{MediaType: image.MediaTypeDockerConfig}, Bytes: []byte(`{"os":"linux","architecture":"amd64","config":` + config + `}`),
		}}
	}
	for name, tt := range map[string]struct {
		a, b string
		want []ConfigChange
	}{
		"healthcheck":    {`{}`, `{"Healthcheck":{"Test":["CMD","x"],"Interval":30000000000}}`, []ConfigChange{{Field: "healthcheck", B: `{"Interval":30000000000,"Test":["CMD","x"]}`}}},
		"onbuild":        {`{"OnBuild":["RUN a"]}`, `{"OnBuild":["RUN b"]}`, []ConfigChange{{Field: "onbuild", A: `["RUN a"]`, B: `["RUN b"]`}}},
		"an own field":   {`{"X":1}`, `{}`, []ConfigChange{{Field: "x", A: "1"}}},
		"an empty env":   {`{}`, `{"Env":["A="]}`, []ConfigChange{{Field: "env A", B: `""`}}},
		"env of quotes":  {`{"Env":["A="]}`, `{"Env":["A=\"\""]}`, []ConfigChange{{Field: "env A", A: `""`, B: `"\"\""`}}},
		"an env twice":   {`{"Env":["A=1","A=2"]}`, `{"Env":["A=3","A=2"]}`, []ConfigChange{{Field: "env A", A: `"1" "2"`, B: `"3" "2"`}}},
		"an empty label": {`{"Labels":{"l":""}}`, `{}`, []ConfigChange{{Field: "label l", A: `""`}}},
		"the directory":  {`{"WorkingDir":"/a"}`, `{"WorkingDir":"/b"}`, []ConfigChange{{Field: "directory", A: "/a", B: "/b"}}},
		"in disguise": {`{"Cmd":["a"],"command":"[\"b\"]"}`, `{"Cmd":["b"]}`, []ConfigChange{
			{Field: "command", A: `["a"]`, B: `["b"]`}, {Field: "config command", A: `"[\"b\"]"`},
		}},
		"what is not told": {`{"OnBuild":null,"Tty":false,"Image":"a","Hostname":"b","entrypoint":["x"]}`, `{"Healthcheck":{},"Entrypoint":["x"]}`, []ConfigChange{}},
	} {
		if diff := cmp.Diff(tt.want, diffConfigs(manifest(tt.a), manifest(tt.b))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
