package layout

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// What refers to images stands behind them, each digest or cosign's name once,
// and has no name that a loader knows.
func TestReferrerEntries(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	app := named("app:1", "a")
	subject := app.Manifests[0].Digest
	tag := image.ReferrersTag(subject) + ".sig"
	refers := func(name string, layers ...string) image.Image {
		img := named(name, layers...)
		img.Subject = subject
		return img
	}
	sbom := refers("app@"+digest.FromString("x").String(), "b")
	old, changed, other := refers("app:"+tag, "a"), refers("app:"+tag, "a", "b"), refers("other:"+tag, "b")
	write(t, dir, Options{}, app, old, sbom)
	write(t, dir, Options{}, app, sbom, changed, other)
	verify(t, dir)
	var got []string
	for _, d := range indexOf(t, dir).Manifests {
		got = append(got, d.Digest.String()+" "+d.Annotations[image.AnnotationSubject]+" "+d.Annotations[image.AnnotationReferrerName])
	}
	want := []string{
		subject.String() + "  ",
		changed.Manifests[0].Digest.String() + " " + subject.String() + " docker.io/library/app:" + tag,
		other.Manifests[0].Digest.String() + " " + subject.String() + " docker.io/library/other:" + tag,
		sbom.Manifests[0].Digest.String() + " " + subject.String() + " ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"docker.io/library/app:1=1", "=", "=", "="}, names(t, dir)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// Images without a name do not drive each other out.
func TestImagesWithoutAName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	for _, layer := range []string{"a", "b", "a"} {
		img := named("app:1", layer)
		img.Name = img.Name.WithTag("")
		img.Name.Registry, img.Name.Repository = "", ""
		write(t, dir, Options{}, img)
	}
	verify(t, dir)
	if n := len(indexOf(t, dir).Manifests); n != 2 {
		t.Errorf("there are %d entries, want 2", n)
	}
}
