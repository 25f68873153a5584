package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/davit-cli/davit/image"
)

// listed is the listing of a layer of the entries.
func listed(t testing.TB, entries []entry) *Listing {
	t.Helper()
	l, err := List(context.Background(), bytes.NewReader(tarOf(t, entries...)), ListOptions{Digests: true})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// small makes images of few names, so that entries meet, by links too.
type small struct {
	*rand.Rand
	n int
}

func (g *small) path() string {
	names := []string{string(rune('a' + g.IntN(4)))}
	for len(names) < 4 && g.IntN(2) == 0 {
		names = append(names, string(rune('a'+g.IntN(4))))
	}
	return strings.Join(names, "/")
}

func (g *small) target() string {
	return []string{"", "/", "../", "./"}[g.IntN(4)] + g.path()
}

// layer makes a layer; tidy has all parents' entries before an entry.
func (g *small) layer(tidy bool) (out []entry) {
	kinds := map[string]byte{}
	for range 1 + g.IntN(6) {
		p := g.path()
		if tidy {
			if kinds[p] != 0 {
				continue
			}
			ok := true
			for i := range p {
				if p[i] == '/' && kinds[p[:i]] != 0 && kinds[p[:i]] != tar.TypeDir {
					ok = false
				}
			}
			if !ok {
				continue
			}
			for i := range p {
				if p[i] == '/' && kinds[p[:i]] == 0 {
					out = append(out, dir(p[:i]))
					kinds[p[:i]] = tar.TypeDir
				}
			}
		}
		g.n++
		parent, base := "", p
		if i := strings.LastIndexByte(p, '/'); i >= 0 {
			parent, base = p[:i+1], p[i+1:]
		}
		e := file(p, fmt.Sprint("content ", g.n))
		switch g.IntN(12) {
		case 0, 1:
			e = dir(p)
		case 2, 3:
			e = symlink(p, g.target())
		case 4:
			e = hardlink(p, g.path())
		case 5:
			e = file(parent+".wh."+base, "")
		case 6:
			e = file(parent+".wh..wh..opq", "")
		case 7:
			e = special(tar.TypeFifo, p, 0, 0)
		}
		if !strings.Contains(e.Name, ".wh.") {
			kinds[p] = e.Typeflag
		}
		out = append(out, e)
	}
	return out
}

// image makes layers that can be merged.
func (g *small) image(t testing.TB) (layers [][]entry, listings []*Listing, view *View) {
	tidy := g.IntN(3)
	for len(layers) < 1+g.IntN(4) {
		entries := g.layer(tidy == 0 || tidy == 1 && g.IntN(2) == 0)
		for {
			v, err := Overlay(context.Background(), append(listings[:len(listings):len(listings)], listed(t, entries)), OverlayOptions{})
			if err == nil {
				view = v
				break
			}
			entries = entries[:len(entries)-1] // a hard link to nothing, a circle
		}
		layers, listings = append(layers, entries), append(listings, listed(t, entries))
	}
	return layers, listings, view
}

// finding is what Find and Lookup are compared by.
func finding(e Entry, err error) string {
	switch {
	case errors.Is(err, image.ErrNotFound):
		return "not found"
	case errors.Is(err, errLinks):
		return "links"
	case err != nil:
		return err.Error()
	case e.Type != tar.TypeReg:
		return kindName(e.Type)
	}
	return fmt.Sprint(e.Layer, " ", e.Ordinal, " ", e.Size, " ", e.Digest)
}

// answer is what a finder answers, and how many layers it opened.
func answer(t testing.TB, listings []*Listing, path string, strict bool) (string, int) {
	opens := make([]int, len(listings))
	f := newFinder(len(listings), func(_ context.Context, i int) (*Listing, error) {
		if opens[i]++; opens[i] > 1 {
			t.Errorf("layer %d is opened again", i)
		}
		if i+1 < len(opens) && opens[i+1] == 0 {
			t.Errorf("layer %d is opened before the one above", i)
		}
		return listings[i], nil
	})
	f.strict = strict
	return finding(f.find(context.Background(), path)), f.opened
}

// seeds is how many random images a test compares: few, or with DAVIT_E2E=1 many.
func seeds(few, many uint64) uint64 {
	if os.Getenv("DAVIT_E2E") == "1" {
		return many
	}
	return few
}

// Where no entry may be led elsewhere by a link, what Find answers is exact,
// whatever it did not open.
func TestFindStrict(t *testing.T) {
	total, early := 0, 0
	eachLookup(t, seeds(300, 1500), func(seed uint64, layers [][]entry, listings []*Listing, p, want string) {
		got, opened := answer(t, listings, p, true)
		if got != want {
			t.Fatalf("seed %d, %s: %s, want %s\n%s", seed, p, got, want, dump(layers))
		}
		total++
		if opened < len(listings) {
			early++
		}
	})
	if t.Logf("%d of %d look-ups did not open all layers", early, total); early < total/50 {
		t.Errorf("only %d of %d look-ups did not open all layers", early, total)
	}
}

// In images of every shape an answer is wrong only by what Find's comment says
// that upper layers cannot tell; that takes links that lead to files, or
// directories that are replaced behind links: next to never.
func TestFindWild(t *testing.T) {
	total, early, wrong := 0, 0, 0
	eachLookup(t, seeds(300, 1500), func(_ uint64, _ [][]entry, listings []*Listing, p, want string) {
		got, opened := answer(t, listings, p, false)
		total++
		if got != want {
			wrong++
		}
		if opened < len(listings) {
			early++
		}
	})
	t.Logf("%d look-ups, %d of them early, %d wrong", total, early, wrong)
	if wrong*5000 > total {
		t.Errorf("%d of %d look-ups are wrong", wrong, total)
	}
	if early < total/30 {
		t.Errorf("only %d of %d look-ups did not open all layers", early, total)
	}
}

// usual makes images as there are, on a base that has links to directories:
// above it loose entries go through the links as they please, and directories,
// files and other links may replace these, but where they lead stays.
func (g *small) usual() (layers [][]entry) {
	layers = append(layers, []entry{
		dir("r"), dir("r/x"), dir("s"), file("r/a", "base a"), file("r/x/b", "base b"), file("s/a", "base s"),
		symlink("l", "r"), symlink("m", "/r/x"), symlink("s/n", "../r"), symlink("r/o", "a"),
	})
	dirs := []string{"r", "r/x", "s", "l", "l/x", "m", "s/n", "s/n/x", "p", "p/q", "r/y", "l/y"}
	for range 1 + g.IntN(4) {
		var out []entry
		for range 1 + g.IntN(5) {
			g.n++
			d := dirs[g.IntN(len(dirs))]
			p := d + "/" + string(rune('a'+g.IntN(3)))
			body := fmt.Sprint("content ", g.n)
			switch g.IntN(13) {
			default:
				out = append(out, file(p, body))
			case 0, 1: // with its parents
				for i := range d {
					if d[i] == '/' {
						out = append(out, dir(d[:i]))
					}
				}
				out = append(out, dir(d), file(p, body))
			case 2:
				out = append(out, file(d+"/.wh."+p[len(d)+1:], ""))
			case 3:
				out = append(out, file([]string{"r/x", "p", "l", "r", "m"}[g.IntN(5)]+"/.wh..wh..opq", ""))
			case 4:
				link := []string{"l", "m", "s/n"}[g.IntN(3)]
				out = append(out, []entry{file(link, body), dir(link), symlink(link, "/p")}[g.IntN(3)])
			case 5:
				out = append(out, symlink(p, []string{"/l/a", "/r/b", "/m/c", "../r/a"}[g.IntN(4)]))
			case 6:
				out = append(out, hardlink(p, []string{"r/a", "l/a", "m/b", "s/a"}[g.IntN(4)]))
			}
		}
		layers = append(layers, out)
	}
	return layers
}

func TestFindUsual(t *testing.T) {
	early, total := 0, 0
	for seed := range seeds(150, 600) {
		g := &small{Rand: rand.New(rand.NewPCG(seed, 9))}
		layers := g.usual()
		var listings []*Listing
		for _, l := range layers {
			listings = append(listings, listed(t, l))
		}
		view, err := Overlay(context.Background(), listings, OverlayOptions{})
		if err != nil {
			continue // a hard link to what is gone
		}
		for _, d := range []string{"", "r/", "r/x/", "s/", "l/", "l/x/", "m/", "s/n/", "s/n/x/", "p/", "p/q/", "r/y/", "l/y/", "s/n/../"} {
			for _, n := range []string{"a", "b", "c", "o", "l", "m"} {
				want := finding(view.Lookup(d+n, true))
				got, opened := answer(t, listings, d+n, false)
				if got != want {
					t.Fatalf("seed %d, %s: %s, want %s\n%s", seed, d+n, got, want, dump(layers))
				}
				if total++; opened < len(listings) {
					early++
				}
			}
		}
	}
	if t.Logf("%d of %d look-ups did not open all layers", early, total); early < total/100 {
		t.Errorf("%d of %d look-ups did not open all layers", early, total)
	}
}

// eachLookup makes images, and looks up paths in each.
func eachLookup(t *testing.T, images uint64, look func(seed uint64, layers [][]entry, listings []*Listing, path, want string)) {
	t.Helper()
	for seed := range images {
		g := &small{Rand: rand.New(rand.NewPCG(seed, 7))}
		layers, listings, view := g.image(t)
		paths := []string{g.path(), g.path(), "/" + g.path() + "/../" + g.path()}
		for _, l := range layers {
			for _, e := range l {
				paths = append(paths, strings.ReplaceAll(e.Name, ".wh.", ""))
			}
		}
		for e := range view.Entries() {
			paths = append(paths, e.Path)
		}
		slices.Sort(paths)
		for _, p := range slices.Compact(paths) {
			look(seed, layers, listings, p, finding(view.Lookup(p, true)))
		}
	}
}

func dump(layers [][]entry) string {
	var b strings.Builder
	for i, l := range layers {
		fmt.Fprintf(&b, "layer %d:", i)
		for _, e := range l {
			fmt.Fprintf(&b, " [%s]", line(&e.Header, e.body))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// The overlay of listings is the merge of layers.
func TestOverlayIsMerge(t *testing.T) {
	for seed := range seeds(50, 200) {
		g := &small{Rand: rand.New(rand.NewPCG(seed, 8))}
		layers, _, view := g.image(t)
		compareView(t, fmt.Sprint("seed ", seed), layersOf(t, layers...), view)
	}
	for _, tt := range rules {
		layers := layersOf(t, tt.layers...)
		compareView(t, tt.name, layers, overlaid(t, layers))
	}
}

func overlaid(t testing.TB, layers []Layer) *View {
	t.Helper()
	var listings []*Listing
	for _, l := range layers {
		listing, err := List(context.Background(), io.NewSectionReader(l.Blob, 0, l.Descriptor.Size), ListOptions{Digests: true})
		if err != nil {
			t.Fatal(err)
		}
		listings = append(listings, listing)
	}
	v, err := Overlay(context.Background(), listings, OverlayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// compareView compares a view's entries with those of Merge, and the content
// that CopyEntry finds with that of WriteTar.
func compareView(t *testing.T, name string, layers []Layer, v *View) {
	t.Helper()
	tree := merged(t, layers, Options{})
	want, got := slices.Collect(tree.Entries()), slices.Collect(v.Entries())
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Entry{}), cmpopts.IgnoreFields(Entry{}, "Digest"), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s: (-merge +overlay):\n%s", name, diff)
	}
	tr := tar.NewReader(bytes.NewReader(tarred(t, tree, TarOptions{})))
	for _, e := range got {
		if _, err := tr.Next(); err != nil {
			t.Fatal(err)
		}
		if e.Type != tar.TypeReg {
			continue
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		l := layers[e.Layer]
		if err := CopyEntry(context.Background(), io.NewSectionReader(l.Blob, 0, l.Descriptor.Size), e.Ordinal, &b, CopyOptions{Digest: e.Digest}); err != nil {
			t.Fatalf("%s: %s: %v", name, e.Path, err)
		}
		if e.Digest == "" || !bytes.Equal(body, b.Bytes()) {
			t.Fatalf("%s: %s (%s) has %q, want %q", name, e.Path, e.Digest, b.Bytes(), body)
		}
	}
}
