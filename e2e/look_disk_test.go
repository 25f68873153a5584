//go:build linux

package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestLookOnDisk looks at what all tools write: whatever the format, the same
// files are in the image, and the same config makes it run.
func TestLookOnDisk(t *testing.T) {
	enabled(t)
	var want struct{ licence, files []string }
	for _, w := range writtenByAll(t) {
		t.Run(w.what, func(t *testing.T) {
			images := []string{w.path}
			if w.images > 1 {
				runDavit(t, "inspect", w.path).exits(t, 1, 2, 3) // one has to be named
				images = []string{w.path + ":" + twoNamed(t, w, "davit/greeting:1"), w.path + ":" + twoNamed(t, w, "davit/files:1")}
			}
			for i, image := range images {
				got := inspected(t, image)
				if hello := strings.Contains(got, `Entrypoint   ["/bin/hello"]`); hello != (i == 0) {
					t.Errorf("davit inspect %s printed\n%s", image, got)
				}
				runDavit(t, "config", image).exits(t, 0)
				licence := runDavit(t, "cat", image, "/opt/go/LICENSE")
				licence.exits(t, 0)
				if want.licence == nil {
					want.licence = licence.lines()
				}
				if !slices.Equal(licence.lines(), want.licence) {
					t.Errorf("/opt/go/LICENSE of %s is another file", image)
				}
			}
			if strings.Contains(w.what, "platforms") {
				return // another image, with more files
			}
			files := runDavit(t, "files", images[0])
			files.exits(t, 0)
			if want.files == nil {
				want.files = files.lines()
			}
			if !slices.Equal(files.lines(), want.files) {
				t.Errorf("davit files %s lists %q, want %q", images[0], files.lines(), want.files)
			}
		})
	}
}

// twoNamed is the full name of one of the images there that ends so.
func twoNamed(t testing.TB, w written, end string) string {
	t.Helper()
	v, _ := verified(t, w.path)
	for _, image := range v.Images {
		if strings.HasSuffix(image.Name, end) {
			return image.Name
		}
	}
	t.Fatalf("%s has no %s: %+v", w.what, end, v.Images)
	return ""
}
