package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// months are May's and June's image, which share all layers but the last one: of
// this machine's platform, and of two.
type months struct {
	may, june           realImage
	mayMulti, juneMulti realImage
}

func madeMonths(t testing.TB) months {
	return once(t, "months", func(t testing.TB) months {
		base := debianBase(t)
		doc, docSums := treeLayer(t, gzipped, goroot(t), "opt/go", "doc")
		image := func(only string) (one, multiple realImage) {
			last, sums := treeLayer(t, gzipped, goroot(t), "opt/go", only)
			m := makeImage(t, thisPlatform, show, base, doc, last)
			other := makeImage(t, otherPlatform, show, base, last)
			prints := release + sum(docSums, sums) + "  -\n"
			return realImage{single(m), m, prints}, realImage{multi(t, other, m), m, prints}
		}
		var all months
		all.may, all.mayMulti = image("lib")
		all.june, all.juneMulti = image("api")
		return all
	})
}

// TestDelta carries May's image, then what is new in June's, over an air gap.
func TestDelta(t *testing.T) {
	enabled(t)
	all := madeMonths(t)
	r := startCounted(t)
	for tag, x := range map[string]realImage{"may": all.may, "june": all.june} {
		r.push(t, "team/app", tag, x.index)
	}
	for tag, x := range map[string]realImage{"may": all.mayMulti, "june": all.juneMulti} {
		r.push(t, "team/multi", tag, x.index)
	}
	dir := workDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	pull := func(file, name string, args ...string) string {
		t.Helper()
		runDavit(t, append([]string{"pull", r.host + "/" + name, "--output", in(file)}, args...)...).exits(t, 0)
		return in(file)
	}
	may, full := pull("may.tar", "team/app:may"), pull("full.tar", "team/app:june")
	r.forget()
	june := pull("june.tar", "team/app:june", "--since", may)

	own := all.june.own
	fresh := own.layers[len(own.layers)-1].descriptor
	want := map[string]bool{"oci-layout": true, "index.json": true, "manifest.json": true}
	for _, d := range []digest.Digest{own.manifest.Digest, own.config.Digest, fresh.Digest} {
		want["blobs/sha256/"+d.Encoded()] = true
	}
	entries := entriesOf(t, june)
	for name := range entries {
		if !want[name] {
			t.Errorf("the delta has %s", name)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("the delta lacks %s", name)
	}
	for _, l := range own.layers {
		got := r.bytes(l.descriptor.Digest)
		if l.descriptor.Digest == fresh.Digest && got != fresh.Size || l.descriptor.Digest != fresh.Digest && got != 0 {
			t.Errorf("of layer %s, %d bytes, %d were fetched", l.descriptor.Digest, l.descriptor.Size, got)
		}
	}
	// Each file has a header and is padded, and two empty blocks end the tar.
	most := fresh.Size + own.config.Size + own.manifest.Size + 16<<10
	if info, err := os.Stat(june); err != nil || info.Size() > most {
		t.Errorf("the delta has %d bytes, want %d at most: %v", info.Size(), most, err)
	} else {
		t.Logf("June's image has %d bytes, its delta %d", own.size(), info.Size())
	}
	verified := runDavit(t, "verify", june)
	verified.exits(t, 0)
	if !strings.Contains(verified.stdout, "needs may.tar: 2 blobs") {
		t.Errorf("davit verify says\n%s", verified.stdout)
	}

	r.forget()
	apply := func(file string, args ...string) string {
		t.Helper()
		runDavit(t, append([]string{"apply", "--output", in(file)}, args...)...).exits(t, 0)
		return in(file)
	}
	whole := apply("whole.tar", may, june)
	sameBytes(t, full, whole)
	if n := r.total(all.june.index); n > 0 {
		t.Errorf("apply fetched %d bytes", n)
	}

	mayMulti := pull("may-multi.tar", "team/multi:may", "--platform", "all")
	fullMulti := pull("full-multi.tar", "team/multi:june", "--platform", "all")
	juneMulti := pull("june-multi.tar", "team/multi:june", "--platform", "all", "--since", mayMulti)
	sameBytes(t, fullMulti, apply("whole-multi.tar", mayMulti, juneMulti))

	t.Run("what the base lacks", func(t *testing.T) {
		other := pull("other.tar", "team/app:june", "--format", "components", "--manifest-only")
		for _, base := range []string{other, in("gone.tar")} {
			failed := runDavit(t, "apply", base, june, "--output", in("never.tar"))
			failed.exits(t, 3)
			if base == other {
				failed.says(t, own.layers[0].descriptor.Digest.String()+" (expected in may.tar)")
			}
			if _, err := os.Stat(in("never.tar")); err == nil {
				t.Errorf("without the base something is written")
			}
		}
	})
	for engine, start := range map[string]func(testing.TB) loader{
		"classic Docker": func(t testing.TB) loader { return startClassicDocker(t) },
		"podman":         func(t testing.TB) loader { return newPodman(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			a := archive{path: whole, image: all.june, name: r.host + "/team/app:june"}
			loads(t, start(t), a, a.name, configID(a))
		})
	}
}

// sameBytes compares two files.
func sameBytes(t *testing.T, want, got string) {
	t.Helper()
	a, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s, of %d bytes, is not %s, of %d bytes", filepath.Base(got), len(b), filepath.Base(want), len(a))
	}
}
