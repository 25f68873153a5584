package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/davit-cli/davit/image"
)

// lookups are paths of an image of two layers, and what stands there.
var lookups = []struct {
	path        string
	follow      bool
	want        string // type, path and layer
	err         error
	errContains string
}{
	{path: "etc/passwd", want: "0 etc/passwd 1"},
	{path: "/etc/passwd", want: "0 etc/passwd 1"},
	{path: "./etc//./passwd", want: "0 etc/passwd 1"},
	{path: "etc", want: "5 etc 1"},
	{path: "etc/", want: "5 etc 1"},
	{path: "", want: "5 . -1"},
	{path: "/", want: "5 . -1"},
	{path: "../../etc", want: "5 etc 1"},
	{path: "bin", want: "2 bin 0"},
	{path: "bin", follow: true, want: "5 usr/bin 0"},
	{path: "bin/", want: "5 usr/bin 0"},
	{path: "bin/.", want: "5 usr/bin 0"},
	{path: "bin/..", want: "5 usr -1"},
	{path: "bin/../../etc", want: "5 etc 1"},
	{path: "/bin/sh", want: "2 usr/bin/sh 0"},
	{path: "/bin/sh", follow: true, want: "0 usr/bin/busybox 0"},
	{path: "bin/abs", follow: true, want: "0 etc/passwd 1"},
	{path: "bin/hard", want: "0 usr/bin/hard 0"},
	{path: "gone", err: image.ErrNotFound, errContains: `"gone": not found`},
	{path: "bin/none", err: image.ErrNotFound, errContains: `"usr/bin/none"`},
	{path: "dangling", want: "2 dangling 0"},
	{path: "dangling", follow: true, err: image.ErrNotFound, errContains: `"no/where"`},
	{path: "dangling/../etc", err: image.ErrNotFound},
	{path: "etc/passwd/", err: image.ErrNotFound, errContains: "not a directory"},
	{path: "etc/passwd/..", err: image.ErrNotFound, errContains: "not a directory"},
	{path: "etc/passwd/x", err: image.ErrNotFound, errContains: "not a directory"},
	{path: "loop", follow: true, err: errLinks},
	{path: "loop/x", err: errLinks},
	{path: "loop", want: "2 loop 0"},
}

func lookupLayers() [][]entry {
	return [][]entry{
		{
			dir("etc"), file("etc/passwd", "old"), dir("usr/bin"), file("usr/bin/busybox", "b"), symlink("bin", "usr/bin"), file("gone", "x"),
			symlink("usr/bin/sh", "busybox"), symlink("usr/bin/abs", "/../etc/passwd"), hardlink("usr/bin/hard", "usr/bin/busybox"),
			symlink("dangling", "no/where"), symlink("loop", "./loop"),
		},
		{dir("etc"), file("etc/passwd", "new"), file(".wh.gone", "")},
	}
}

func TestLookup(t *testing.T) {
	v := overlaid(t, layersOf(t, lookupLayers()...))
	for _, tt := range lookups {
		e, err := v.Lookup(tt.path, tt.follow)
		got := fmt.Sprintf("%c %s %d", e.Type, e.Path, e.Layer)
		if tt.err == nil && (err != nil || got != tt.want) {
			t.Errorf("%q, %v: %s, %v, want %s", tt.path, tt.follow, got, err, tt.want)
		}
		if tt.err != nil && (!errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.errContains) || !strings.Contains(err.Error(), tt.path)) {
			t.Errorf("%q, %v: %v, want %v that has %q", tt.path, tt.follow, err, tt.err, tt.errContains)
		}
	}
}

func TestEntriesUnder(t *testing.T) {
	v := overlaid(t, layersOf(t, lookupLayers()...))
	usr := []string{"usr/bin 5", "usr/bin/abs 2", "usr/bin/busybox 0", "usr/bin/hard 1 usr/bin/busybox", "usr/bin/sh 2"}
	for path, want := range map[string][]string{
		"usr/bin":      usr,
		"/bin":         usr,
		"bin/":         usr,
		"usr":          append([]string{"usr 5"}, usr...),
		"usr/bin/hard": {"usr/bin/hard 0"},
		"dangling":     {"dangling 2"},
		"loop":         {"loop 2"},
		"bin/sh":       {"usr/bin/sh 2"},
		"etc/":         {"etc 5", "etc/passwd 0"},
		".":            append([]string{"bin 2", "dangling 2", "etc 5", "etc/passwd 0", "loop 2", "usr 5"}, usr...),
	} {
		entries, err := v.EntriesUnder(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for range 2 { // it may be repeated
			var got []string
			for e := range entries {
				line := fmt.Sprintf("%s %c", e.Path, e.Type)
				if e.Type == tar.TypeLink {
					line += " " + e.Target
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
	if _, err := v.EntriesUnder("gone"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A name that a file has besides its first is a file among Names, and all come in
// the order of Entries.
func TestNames(t *testing.T) {
	v := overlaid(t, layersOf(t, lookupLayers()...))
	var entries, names []string
	for e := range v.Entries() {
		entries = append(entries, e.Path)
	}
	for e := range v.Names() {
		names = append(names, e.Path)
		want, err := v.Lookup(e.Path, false)
		if diff := cmp.Diff(want, e, cmpopts.IgnoreUnexported(Entry{})); diff != "" || err != nil {
			t.Errorf("%s: %v (-Lookup +Names):\n%s", e.Path, err, diff)
		}
	}
	if diff := cmp.Diff(entries, names); diff != "" {
		t.Errorf("names (-entries +names):\n%s", diff)
	}
}

// Find's answers on the same image are those of Lookup.
func TestFindLookups(t *testing.T) {
	var listings []*Listing
	for _, l := range lookupLayers() {
		listings = append(listings, listed(t, l))
	}
	v, err := Overlay(context.Background(), listings, OverlayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range lookups {
		got, _ := answer(t, listings, tt.path, false)
		if want := finding(v.Lookup(tt.path, true)); got != want {
			t.Errorf("%q: %s, want %s", tt.path, got, want)
		}
	}
}

// Find opens no more layers than it takes.
func TestFindOpens(t *testing.T) {
	base := []entry{dir("etc"), file("etc/passwd", "root"), dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"), file("usr/lib/libc", "elf")}
	tests := []struct {
		name   string
		layers [][]entry // the lowest first, above a base
		path   string
		opened int
		want   string // the content, or what else is there
	}{
		{"a file of the top", [][]entry{{}, {file("app/x", "1")}}, "app/x", 1, "1"},
		{"with its parents", [][]entry{{}, {dir("app"), file("app/x", "1")}}, "/app/x", 1, "1"},
		{"loose, below other loose ones", [][]entry{{file("app/x", "1")}, {file("app/y", "2")}, {file("opt/z", "3")}}, "app/x", 3, "1"},
		{"with its parents, below loose ones", [][]entry{{dir("app"), file("app/x", "1")}, {file("app/y", "2")}}, "app/x", 2, "1"},
		{"replaced", [][]entry{{file("app/x", "1")}, {file("app/x", "2")}}, "app/x", 1, "2"},
		{"below a whiteout of another", [][]entry{{file("app/x", "1")}, {file("app/.wh.y", "")}}, "app/x", 2, "1"},
		{"a link and its target", [][]entry{{file("app/x", "1")}, {dir("bin"), symlink("bin/y", "../app/x")}, {}}, "bin/y", 3, "1"},
		{"a link and its target of one name, with parents", [][]entry{{dir("app"), file("app/x", "1")}, {dir("bin"), symlink("bin/x", "../app/x")}}, "bin/x", 2, "1"},
		{"a link and its target of one name, loose", [][]entry{{file("app/x", "1")}, {dir("bin"), symlink("bin/x", "../app/x")}}, "bin/x", 3, "1"},
		{"a hard link and its target, in one layer", [][]entry{{}, {file("app/x", "1"), hardlink("app/y", "app/x")}}, "app/y", 1, "1"},
		{"a hard link's target is replaced above", [][]entry{{file("app/x", "1")}, {hardlink("app/y", "app/x")}, {file("app/x", "2")}}, "app/y", 3, "1"},
		{"a hard link's target is replaced above, with parents", [][]entry{{dir("app"), file("app/x", "1")}, {dir("app"), hardlink("app/y", "app/x")}, {dir("app"), file("app/x", "2")}}, "app/y", 3, "1"},
		{"a directory", [][]entry{{}, {dir("app"), file("app/x", "1")}}, "app", 1, "a directory"},
		{"a directory by what is in it", [][]entry{{}, {file("app/x", "1")}}, "app", 1, "a directory"},
		{"a device", [][]entry{{special(tar.TypeChar, "null", 1, 3)}, {}}, "null", 2, "a device"},
		{"a file of the base", [][]entry{{file("app/x", "1")}}, "etc/passwd", 2, "root"},
		{"a link of the base on the way", [][]entry{{file("lib/x", "1")}}, "lib/x", 1, "1"},
		{"through a link of the base", [][]entry{{file("lib/x", "1")}}, "usr/lib/x", 2, "1"},
		{"the same name elsewhere, loose", [][]entry{{dir("usr"), dir("usr/lib"), file("usr/lib/x", "1")}, {file("lib/x", "2")}}, "usr/lib/x", 3, "2"},
		{"a whiteout of the name elsewhere, loose", [][]entry{{dir("usr"), dir("usr/lib"), file("usr/lib/x", "1")}, {file("lib/.wh.x", "")}}, "usr/lib/x", 3, "not found"},
		{"a parent becomes a directory above", [][]entry{{file("lib/x", "1")}, {dir("lib")}}, "lib/x", 3, "not found"},
		{"hidden by a whiteout", [][]entry{{file("app/x", "1")}, {file(".wh.app", "")}}, "app/x", 3, "not found"},
		{"hidden by an opaque parent", [][]entry{{file("app/x", "1")}, {dir("app"), file("app/.wh..wh..opq", "")}}, "app/x", 3, "not found"},
		{"hidden by a file", [][]entry{{file("app/x", "1")}, {file("app", "2")}}, "app/x", 3, "not found"},
		{"a whiteout hides nothing of its own layer", [][]entry{{file("app/x", "1")}, {file("app/x", "2"), file("app/.wh.x", "")}}, "app/x", 1, "2"},
		{"nowhere", [][]entry{{}, {}}, "none", 3, "not found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			layers := layersOf(t, append([][]entry{base}, tt.layers...)...)
			var listings []*Listing
			for _, entries := range append([][]entry{base}, tt.layers...) {
				listings = append(listings, listed(t, entries))
			}
			found, err := Find(context.Background(), len(listings), func(_ context.Context, i int) (*Listing, error) { return listings[i], nil }, tt.path)
			got := finding(found.Entry, err)
			_, opened := answer(t, listings, tt.path, false)
			switch {
			case err == nil:
				var b strings.Builder
				l := layers[found.Entry.Layer]
				if err := CopyEntry(context.Background(), io.NewSectionReader(l.Blob, 0, l.Descriptor.Size), found.Entry.Ordinal, &b, CopyOptions{Digest: found.Entry.Digest}); err != nil {
					t.Error(err)
				}
				got = b.String()
			case strings.HasSuffix(err.Error(), tt.want) && !errors.Is(err, image.ErrNotFound):
				got = tt.want
			}
			if got != tt.want || opened != tt.opened || err == nil && found.Opened != opened {
				t.Errorf("%q of %d layers (%+v, %v), want %q of %d", got, opened, found, err, tt.want, tt.opened)
			}
		})
	}
}

// An error of a layer's opener is Find's.
func TestFindOpenError(t *testing.T) {
	broken := errors.New("the line is cut")
	_, err := Find(context.Background(), 2, func(_ context.Context, i int) (*Listing, error) {
		if i == 0 {
			return nil, broken
		}
		return listed(t, []entry{file("a", "1")}), nil
	}, "b")
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "layer 1") || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("%v", err)
	}
	if _, err := Find(context.Background(), 0, nil, "b"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("no layers: %v", err)
	}
}
