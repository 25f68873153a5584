package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/verify"
)

// What is not compressed is not called so, and the year 1 of reproducible
// builds is no date.
func TestInspectedSizeAndDate(t *testing.T) {
	layer := davit.InspectedLayer{Digest: "sha256:1", MediaType: "tar", Size: 2000}
	plain, told := layer, layer
	plain.Unpacked, told.Unpacked = 2000, 5000
	none, some := time.Time{}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name string
		x    davit.Inspection
		want string
	}{
		{"compressed", davit.Inspection{Size: 2100, Created: &none, Layers: []davit.InspectedLayer{layer}}, "Size         2.1kB compressed\n"},
		{"both are told", davit.Inspection{Size: 2100, Unpacked: 5000, Layers: []davit.InspectedLayer{told}}, "Size         2.1kB compressed, 5kB uncompressed\n"},
		{"tars", davit.Inspection{Size: 2100, Unpacked: 2000, Created: &some, Layers: []davit.InspectedLayer{plain}},
			"Created      2026-01-02T03:04:05Z\nSize         2.1kB uncompressed\n"},
		{"no image", davit.Inspection{Size: 2100, ArtifactType: "a/b", Layers: []davit.InspectedLayer{layer}},
			"Artifact     a/b\nSize         2.1kB\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			if err := printInspection(&b, tt.x); err != nil {
				t.Fatal(err)
			}
			got, _, _ := strings.Cut(b.String(), "\nLayers")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

// Directories end with a slash, and only what has content has a size.
func TestDifferenceOfFiles(t *testing.T) {
	d := davit.Difference{Files: []davit.FileChange{
		{Path: "/a", Change: davit.Added, Type: davit.Directory},
		{Path: "/a/b", Change: davit.Added, Type: davit.Regular, SizeB: 7},
		{Path: "/c", Change: davit.Removed, Type: davit.Symlink},
		{Path: "/d", Change: davit.Removed, Type: davit.Regular},
		{Path: "/e", Change: davit.Changed, Type: davit.Directory, What: []string{"mode"}},
	}}
	var b strings.Builder
	if err := printDifference(&b, d); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(b.String(), "\nFiles ")
	const want = "      2 added, 1 changed, 2 removed\n  + /a/\n  + /a/b  (7B)\n  - /c\n  - /d  (0B)\n  ~ /e/  (mode)\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// A problem begins with what it is about; where there is nothing of an image,
// it is not called a layout.
func TestReportText(t *testing.T) {
	r := verify.Report{
		Path: "x", Format: verify.OCI,
		Problems: []verify.Problem{{What: verify.Digest, Subject: "sha256:1", Text: "it has another digest than its name says: sha256:2", For: "app"}},
		Loaders:  []verify.Loader{{Name: "docker", Why: "it reads tars"}},
	}
	const fault = "  FAULT  sha256:1: it has another digest than its name says: sha256:2 (of app)\n"
	nothing := reportText(t, r)
	r.Blobs, r.Images = 1, []verify.Image{{Name: "app", Digest: "sha256:3", Platforms: []string{"linux/arm64"}}}
	something := reportText(t, r)
	if diff := cmp.Diff(fault+"  not    docker: it reads tars\n", nothing); diff != "" {
		t.Errorf("without an image (-want +got):\n%s", diff)
	}
	want := "x: an OCI image layout, 1 blob (0B) hashed\n  image  app  linux/arm64  sha256:3\n" + fault + "  not    docker: it reads tars\n"
	if diff := cmp.Diff(want, something); diff != "" {
		t.Errorf("with an image (-want +got):\n%s", diff)
	}
}

func reportText(t *testing.T, r verify.Report) string {
	t.Helper()
	var b strings.Builder
	if err := printReport(&b, r, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
