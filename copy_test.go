package davit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/transfer"
)

// quickly is a transfer whose tries follow each other at once.
var quickly = transfer.Options{Backoff: time.Millisecond, Retries: 2}

// writable is a registry that takes pushes.
func writable(t *testing.T) *registrytest.Server {
	return registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{}})
}

// requests are what a server was asked, each with its method and the end of its
// path, and how often.
func requests(s *registrytest.Server, match func(registrytest.Request) bool) map[string]int {
	asked := map[string]int{}
	for _, q := range s.Requests() {
		if match(q) {
			asked[q.Method+" "+q.Path]++
		}
	}
	return asked
}

// tagged is what a tag means at a server; empty where there is no such tag.
func tagged(s *registrytest.Server, repository, tag string) digest.Digest {
	if d, ok := s.Content.Describe(repository, tag); ok {
		return d.Digest
	}
	return ""
}

// Each blob is fetched and sent once, however many repositories of a registry
// want it, and however many registries.
func TestCopyAllMounts(t *testing.T) {
	from, to, other := registrytest.Start(t, registrytest.Options{}), writable(t), writable(t)
	var items []davit.CopyItem
	shared := registrytest.RandomLayer(1, 200_000)
	for i := range 3 {
		from.Push(fmt.Sprintf("app%d", i), "v1", registrytest.Image{Layers: []registrytest.Layer{shared, registrytest.RandomLayer(uint64(10+i), 5000+1000*int64(i))}})
		for _, at := range []*registrytest.Server{to, other} {
			items = append(items, davit.CopyItem{
				Source: fmt.Sprintf("%s/app%d:v1", from.Host(), i), Destination: fmt.Sprintf("%s/mirror/app%d", at.Host(), i),
			})
		}
	}
	var mu sync.Mutex
	var planned, sent, mounted, there int64
	results, err := davit.CopyAll(t.Context(), items, davit.CopyOptions{Events: func(e image.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Kind {
		case image.EventPlanned:
			planned += e.Bytes
		case image.EventBlobSent:
			sent += e.Blob.Size
		case image.EventBlobMounted:
			mounted += e.Blob.Size
		case image.EventBlobThere:
			there += e.Blob.Size
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var resultsSent, resultsMounted int64
	for i, r := range results {
		repository, _, _ := strings.Cut(strings.TrimPrefix(items[i].Destination, map[bool]string{true: to.Host(), false: other.Host()}[i%2 == 0]+"/"), ":")
		at := []*registrytest.Server{to, other}[i%2]
		if r.Digest == "" || tagged(at, repository, "v1") != r.Digest {
			t.Errorf("%s: %+v, the tag means %s", items[i].Destination, r, tagged(at, repository, "v1"))
		}
		resultsSent, resultsMounted = resultsSent+r.Sent, resultsMounted+r.Mounted
	}
	d, _ := from.Content.Describe("app0", "v1")
	layer := layersOf(t, from, "app0", d.Digest)[0]
	for _, at := range []*registrytest.Server{to, other} {
		if n := at.Stats().Uploaded; n > layer.Size+50_000 {
			t.Errorf("%d bytes were uploaded: the shared layer of %d more than once", n, layer.Size)
		}
	}
	if got := from.BlobBytesOf(layer.Digest); got != 2*layer.Size {
		t.Errorf("%d bytes of the shared layer were fetched, want it once for each registry", got)
	}
	if there != 0 || mounted != 4*layer.Size || sent+mounted != planned {
		t.Errorf("planned %d, sent %d, mounted %d, there %d", planned, sent, mounted, there)
	}
	if resultsMounted < mounted || resultsSent < sent {
		t.Errorf("the results tell of %d sent and %d mounted, the events of %d and %d", resultsSent, resultsMounted, sent, mounted)
	}
}

// layersOf are the layers of a manifest that a server has.
func layersOf(t *testing.T, s *registrytest.Server, repository string, d digest.Digest) []image.Descriptor {
	t.Helper()
	content, err := davit.Manifest(t.Context(), fmt.Sprintf("%s/%s@%s", s.Host(), repository, d), davit.LookOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.ParseManifest(image.Content{Descriptor: image.Descriptor{MediaType: content.MediaType, Digest: d}, Bytes: content.Bytes})
	if err != nil {
		t.Fatal(err)
	}
	return m.Layers
}

// More images than are resolved together, which share their layers: all are
// copied, and the layers sent once.
func TestCopyAllOfManyImages(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	layer := registrytest.RandomLayer(1, 1000)
	var items []davit.CopyItem
	for i := range 150 {
		from.Push("app", fmt.Sprint("v", i), registrytest.Image{Layers: []registrytest.Layer{layer}, Annotations: map[string]string{"n": fmt.Sprint(i)}})
		items = append(items, davit.CopyItem{Source: fmt.Sprintf("%s/app:v%d", from.Host(), i), Destination: to.Host() + "/app"})
	}
	results, err := davit.CopyAll(t.Context(), items, davit.CopyOptions{})
	if err != nil || len(results) != len(items) {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for i, r := range results {
		if want := tagged(from, "app", fmt.Sprint("v", i)); r.Digest != want || tagged(to, "app", fmt.Sprint("v", i)) != want {
			t.Errorf("v%d: %s", i, r.Digest)
		}
	}
	if n := to.Stats().Uploaded; n > 10_000 {
		t.Errorf("%d bytes were uploaded", n)
	}
}

// With SkipSame it costs a HEAD on each side to find out that nothing is to be done.
func TestCopySkipSame(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	x := from.PushIndex("app", "v1", registrytest.Index{Images: []registrytest.Image{{}, {Platform: image.Platform{OS: "linux", Architecture: "arm64"}}}})
	opts := davit.CopyOptions{SkipSame: true}
	copied := func(destination string, platforms ...string) davit.CopyResult {
		t.Helper()
		from.ResetRecords()
		to.ResetRecords()
		opts.Platforms = platforms
		r, err := davit.Copy(t.Context(), from.Host()+"/app:v1", to.Host()+"/"+destination, opts)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := copied("app"); r.Same || r.Digest != x.Index.Digest {
		t.Errorf("%+v", r)
	}
	all := func(registrytest.Request) bool { return true }
	for _, destination := range []string{"app", "app:v1", "app:v1@" + x.Index.Digest.String()} {
		if r := copied(destination); !r.Same || r.Digest != x.Index.Digest || r.Destination == "" || r.Sent+r.Size != 0 {
			t.Errorf("%s: %+v", destination, r)
		}
		want := map[string]int{"HEAD /v2/app/manifests/v1": 1}
		if diff := cmp.Diff(want, requests(from, all)) + cmp.Diff(want, requests(to, all)); diff != "" {
			t.Errorf("%s: the requests (-want +got):\n%s", destination, diff)
		}
	}
	// A tag is set though the digest is there, and a digest that is there is no tag.
	if r := copied("app:v2@" + x.Index.Digest.String()); r.Same || tagged(to, "app", "v2") != x.Index.Digest {
		t.Errorf("another tag: %+v", r)
	}
	// Of one platform its manifest is compared.
	if r := copied("one:v1", "linux/arm64"); r.Same || r.Digest != x.Images[1].Manifest.Digest {
		t.Errorf("one platform: %+v", r)
	}
	if r := copied("one:v1", "linux/arm64"); !r.Same {
		t.Errorf("one platform, again: %+v", r)
	}
	if asked := requests(to, all); len(asked) != 1 {
		t.Errorf("one platform, again: %v", asked)
	}
	from.Push("app", "v1", registrytest.Image{})
	if r := copied("app"); r.Same || tagged(to, "app", "v1") != r.Digest || r.Digest == x.Index.Digest {
		t.Errorf("a moved tag: %+v", r)
	}
}

// failing are three images, of which the second one is as name says.
func failing(name string) (from *registrytest.Options, break2 func(o *registrytest.Options, p registrytest.Pushed)) {
	o := &registrytest.Options{}
	return o, map[string]func(*registrytest.Options, registrytest.Pushed){
		"missing": func(o *registrytest.Options, _ registrytest.Pushed) {
			o.Answers = []registrytest.Answer{{Match: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v2/two/") }, Status: 404}}
		},
		"a layer is missing": func(o *registrytest.Options, p registrytest.Pushed) {
			o.Answers = []registrytest.Answer{{Match: registrytest.Of(p.Layers[0].Digest), Status: 404}}
		},
		"a layer is wrong": func(o *registrytest.Options, p registrytest.Pushed) {
			o.Corrupt = map[digest.Digest]*registrytest.Corrupt{p.Layers[0].Digest: {Flip: []int64{100}}}
		},
	}[name]
}

// What of several images can be copied is copied with KeepGoing.
func TestCopyAllKeepsGoing(t *testing.T) {
	for _, name := range []string{"missing", "a layer is missing", "a layer is wrong"} {
		for _, keepGoing := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, %t", name, keepGoing), func(t *testing.T) {
				opts, breakIt := failing(name)
				from, to := registrytest.Start(t, *opts), writable(t)
				var items []davit.CopyItem
				for i, repository := range []string{"one", "two", "three"} {
					p := from.Push(repository, "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(uint64(i), 90_000+int64(i))}})
					if repository == "two" {
						from.Configure(func(o *registrytest.Options) { breakIt(o, p) })
					}
					items = append(items, davit.CopyItem{Source: from.Host() + "/" + repository + ":v1", Destination: to.Host() + "/" + repository})
				}
				results, err := davit.CopyAll(t.Context(), items, davit.CopyOptions{KeepGoing: keepGoing, Transfer: quickly})
				var failed *davit.CopyError
				if !errors.As(err, &failed) || len(failed.Failures) != 1 || failed.Asked != 3 || failed.Copied != len(results) {
					t.Fatalf("%v", err)
				}
				if failed.Failures[0].Reference != from.Host()+"/two:v1" {
					t.Errorf("failed: %v", failed.Failures)
				}
				if keepGoing && (len(results) != 2 || tagged(to, "one", "v1") == "" || tagged(to, "three", "v1") == "") {
					t.Errorf("%d are copied", len(results))
				}
				if name == "missing" && !keepGoing && to.Stats().Requests > 0 {
					t.Errorf("%d requests were made although one image is not there", to.Stats().Requests)
				}
				if tagged(to, "two", "v1") != "" {
					t.Error("the one that failed has its tag")
				}
			})
		}
	}
}

// Where one source cannot give a blob that images of two sources share, the image
// of the other source gets it from there.
func TestCopyAllFromSeveralSources(t *testing.T) {
	lacks, has, to := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{}), writable(t)
	shared := registrytest.RandomLayer(1, 100_000)
	p := lacks.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{shared}})
	has.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{shared, registrytest.RandomLayer(2, 3000)}})
	lacks.Configure(func(o *registrytest.Options) {
		o.Answers = []registrytest.Answer{{Match: registrytest.Of(p.Layers[0].Digest), Status: 404}}
	})
	results, err := davit.CopyAll(t.Context(), []davit.CopyItem{
		{Source: lacks.Host() + "/app:v1", Destination: to.Host() + "/app:lacks"},
		{Source: has.Host() + "/app:v1", Destination: to.Host() + "/app:has"},
	}, davit.CopyOptions{KeepGoing: true, Transfer: quickly})
	if !errors.Is(err, image.ErrNotFound) || len(results) != 1 || tagged(to, "app", "has") == "" || tagged(to, "app", "lacks") != "" {
		t.Errorf("%+v, %v", results, err)
	}
}

// What a registry says of a blob that another manifest lies about is not believed.
func TestCopyOfLyingManifests(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	p := from.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 5000)}})
	lie := strings.Replace(string(p.ManifestBytes), fmt.Sprintf(`"size":%d`, p.Layers[0].Size), fmt.Sprintf(`"size":%d`, p.Layers[0].Size-1), 1)
	from.PushRaw("app", "lie", p.Manifest.MediaType, []byte(lie))
	for _, order := range [][]string{{"lie"}, {"v1", "lie"}, {"lie", "v1"}} {
		repository := strings.Join(order, "-")
		var items []davit.CopyItem
		for _, tag := range order {
			items = append(items, davit.CopyItem{Source: from.Host() + "/app:" + tag, Destination: to.Host() + "/" + repository})
		}
		_, err := davit.CopyAll(t.Context(), items, davit.CopyOptions{KeepGoing: true, Transfer: quickly})
		if !errors.Is(err, image.ErrVerification) || tagged(to, repository, "lie") != "" {
			t.Errorf("%v: %v, the tag means %q", order, err, tagged(to, repository, "lie"))
		}
		if slices.Contains(order, "v1") && tagged(to, repository, "v1") != p.Manifest.Digest {
			t.Errorf("%v: the right one is not there", order)
		}
	}
}

// A registry that loses what it took gets it again, but not for ever.
func TestCopyOfLostUploads(t *testing.T) {
	from := registrytest.Start(t, registrytest.Options{})
	p := from.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 20<<20)}})
	for _, test := range []struct {
		times int // how often the upload is gone once it has pieces
		ok    bool
	}{{1, true}, {2, true}, {50, false}} {
		to := writable(t)
		to.Configure(func(o *registrytest.Options) {
			pieces := 0
			o.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if !registrytest.Pieces(r) || r.URL.RawQuery != "" && r.ContentLength < 1<<20 {
					return false
				}
				if pieces++; pieces%2 == 1 || pieces > 2*test.times {
					return false
				}
				http.Error(w, `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`, http.StatusNotFound)
				return true
			}
		})
		r, err := davit.Copy(t.Context(), from.Host()+"/app:v1", to.Host()+"/app", davit.CopyOptions{Transfer: quickly})
		if (err == nil) != test.ok {
			t.Errorf("%d times: %v", test.times, err)
		}
		if test.ok && (tagged(to, "app", "v1") != p.Manifest.Digest || r.Sent < p.Layers[0].Size) {
			t.Errorf("%d times: %+v", test.times, r)
		}
		if !test.ok && tagged(to, "app", "v1") != "" {
			t.Errorf("%d times: it has its tag", test.times)
		}
	}
}

// An end of the context ends the copy, also where the registry takes nothing more.
func TestCopyIsInterrupted(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	from.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 300_000), registrytest.RandomLayer(2, 400_000)}})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("that is enough")
	to.Configure(func(o *registrytest.Options) {
		o.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
			if !registrytest.Pieces(r) {
				return false
			}
			cancel(why)
			<-r.Context().Done()
			return true
		}
	})
	if _, err := davit.Copy(ctx, from.Host()+"/app:v1", to.Host()+"/app", davit.CopyOptions{}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	if tagged(to, "app", "v1") != "" {
		t.Error("it has its tag")
	}
}

// A dry run tells what would be sent, and sends nothing.
func TestCopyDryRun(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	p := from.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 3000)}})
	r, err := davit.Copy(t.Context(), from.Host()+"/app:v1", to.Host()+"/app", davit.CopyOptions{DryRun: true})
	if err != nil || r.Sent != p.Size() || r.Size != p.Size() || to.Stats().Uploaded != 0 || tagged(to, "app", "v1") != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// Layers are re-encoded on the way into a registry, and nothing stays behind.
func TestCopyLayers(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("TMP", temp)
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	from.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{{Files: registrytest.RandomLayer(1, 3000).Files, Compression: registrytest.None}}})
	r, err := davit.Copy(t.Context(), from.Host()+"/app:v1", to.Host()+"/app", davit.CopyOptions{Layers: davit.Gzip})
	if err != nil {
		t.Fatal(err)
	}
	if r.Source != from.Host()+"/app:v1" || tagged(to, "app", "v1") != r.Digest {
		t.Errorf("%+v", r)
	}
	for _, layer := range layersOf(t, to, "app", r.Digest) {
		if !strings.HasSuffix(layer.MediaType, "gzip") {
			t.Errorf("a layer is %s", layer.MediaType)
		}
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A manifest that another one of the image names as its layer, or as its config,
// is at the destination as a blob too.
func TestCopyOfManifestsAsBlobs(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	const manifest, index = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
	p := from.Push("app", "", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 1000)}})
	content, err := davit.Manifest(t.Context(), from.Host()+"/app@"+p.Manifest.Digest.String(), davit.LookOptions{})
	if err != nil {
		t.Fatal(err)
	}
	from.AddBlob(content.Bytes)
	as := func(config, layer image.Descriptor) image.Descriptor {
		return from.PushRaw("app", "", manifest, fmt.Appendf(nil,
			`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x","config":{"mediaType":"application/x","digest":%q,"size":%d},"layers":[{"mediaType":"application/x","digest":%q,"size":%d}]}`,
			manifest, config.Digest, config.Size, layer.Digest, layer.Size))
	}
	entries := ""
	for _, d := range []image.Descriptor{p.Manifest, as(p.Config, p.Manifest), as(p.Manifest, p.Layers[0])} {
		entries += fmt.Sprintf(`,{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64"}}`, manifest, d.Digest, d.Size)
	}
	from.PushRaw("app", "v1", index, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, index, entries[1:]))
	if _, err := davit.Copy(t.Context(), from.Host()+"/app:v1", to.Host()+"/app:v1", davit.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []image.Descriptor{p.Manifest, p.Config, p.Layers[0]} {
		if _, _, ok := to.Content.Blob(d.Digest); !ok {
			t.Errorf("blob %s is not there", d.Digest)
		}
	}
}
