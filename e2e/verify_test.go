//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// verdict is what davit verify --json prints, as far as the tests need it.
type verdict struct {
	Blobs    int
	Images   []struct{ Name string }
	Problems []problem
	Loaders  []struct {
		Name, Why string
		Takes     bool
	}
	Notes []string
}

type problem struct{ What, Subject, Text string }

// verified runs davit verify, for people and for programs, and checks that both
// end alike.
func verified(t testing.TB, path string) (v verdict, text ran) {
	t.Helper()
	text = runDavit(t, "verify", path)
	j := runDavit(t, "verify", path, "--json")
	if text.code != j.code {
		t.Errorf("davit verify %s: exit %d, with --json %d", path, text.code, j.code)
	}
	if j.stdout == "" {
		t.Fatalf("%s: exit %d, nothing printed\n%s", j.command, j.code, j.stderr)
	}
	decode(t, j.stdout, &v)
	return v, text
}

// TestVerifyPasses has davit verify check what all tools write, as it is and
// compressed: nothing is wrong with any of it.
func TestVerifyPasses(t *testing.T) {
	enabled(t)
	all := writtenByAll(t)
	linked := 0
	for _, w := range all {
		t.Run(w.what, func(t *testing.T) {
			paths := []string{w.path}
			if !w.isDir(t) {
				paths = append(paths, packed(t, "gzip", w.path), packed(t, "zstd", w.path))
				linked += links(t, w.path)
			}
			for _, path := range paths {
				v, text := verified(t, path)
				text.exits(t, 0)
				if len(v.Problems) > 0 || v.Blobs < 3 || len(v.Images) < w.images {
					t.Errorf("davit verify %s: %+v", path, v)
				}
			}
		})
	}
	if linked == 0 {
		t.Error("no tool wrote a layer as a link: two images that share one show nothing")
	}
}

// links counts the symlinks in a tar, which docker save writes for layers that
// several images have.
func links(t testing.TB, path string) (n int) {
	t.Helper()
	for _, e := range readTar(t, path) {
		if e.Typeflag == tar.TypeSymlink && strings.HasSuffix(e.Name, "layer.tar") {
			n++
		}
	}
	return n
}

// readTar is a small tar in memory.
func readTar(t testing.TB, path string) (entries []entry) {
	t.Helper()
	f := openFile(t, path)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		entries = append(entries, entry{Header: *h, Body: body})
	}
}

func writeTar(t testing.TB, entries []entry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size, h.Format, h.PAXRecords = int64(len(e.Body)), tar.FormatUnknown, nil
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.Body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(workDir(t), "copy.tar")
	writeFile(t, to, b.String())
	return to
}

// readDir is a small directory as if it were a tar.
func readDir(t testing.TB, dir string) (entries []entry) {
	t.Helper()
	for _, name := range filesIn(t, dir) {
		entries = append(entries, text(name, string(contents(t, filepath.Join(dir, name)))))
	}
	return entries
}

func writeDir(t testing.TB, entries []entry) string {
	t.Helper()
	to := filepath.Join(workDir(t), "copy")
	for _, e := range entries {
		name := filepath.Join(to, e.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, name, string(e.Body))
	}
	return to
}

// layerAt is the largest file: a layer.
func layerAt(entries []entry) int {
	largest := 0
	for i, e := range entries {
		if len(e.Body) > len(entries[largest].Body) {
			largest = i
		}
	}
	return largest
}

var hexDigest = regexp.MustCompile(`[0-9a-f]{64}`)

// called is what davit must name a file by: the last digest in its name, which
// may be an ID.
func called(name string) string {
	all := hexDigest.FindAllString(name, -1)
	return all[len(all)-1]
}

// faults are what davit verify must find in a copy, and how it calls them. Each
// spoils entries and returns what has to be named.
var faults = []struct {
	what  string
	kinds []string
	spoil func(t testing.TB, entries []entry) (spoiled []entry, named string)
}{
	{"flipped byte", []string{"digest", "diffid"}, func(_ testing.TB, entries []entry) ([]entry, string) {
		l := entries[layerAt(entries)]
		l.Body[len(l.Body)/2] ^= 1
		return entries, called(l.Name)
	}},
	{"garbage of the same size", []string{"digest", "diffid", "layer"}, func(t testing.TB, entries []entry) ([]entry, string) {
		l := entries[layerAt(entries)]
		if _, err := rand.NewChaCha8([32]byte{9}).Read(l.Body); err != nil {
			t.Fatal(err)
		}
		return entries, called(l.Name)
	}},
	{"missing blob", []string{"missing"}, func(_ testing.TB, entries []entry) ([]entry, string) {
		i := layerAt(entries)
		named := called(entries[i].Name)
		return slices.Delete(entries, i, i+1), named
	}},
	{"wrong diffID", []string{"diffid"}, func(t testing.TB, entries []entry) ([]entry, string) {
		return withDiffID(t, entries), wrongDiffID
	}},
}

// wrongDiffID is no layer's.
var wrongDiffID = strings.Repeat("5d1f7a0c", 8)

// withDiffID puts another diffID into the config, and its new digest into all
// that names it, and so on: everything is what its name says.
func withDiffID(t testing.TB, entries []entry) []entry {
	t.Helper()
	for i, e := range entries {
		var config struct {
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			} `json:"rootfs"`
		}
		if e.Typeflag != 0 && e.Typeflag != tar.TypeReg || len(e.Body) > 100_000 || json.Unmarshal(e.Body, &config) != nil || len(config.RootFS.DiffIDs) == 0 {
			continue
		}
		// The last layer's, which is the program's.
		was := strings.TrimPrefix(config.RootFS.DiffIDs[len(config.RootFS.DiffIDs)-1], "sha256:")
		return reforged(entries, i, bytes.ReplaceAll(e.Body, []byte(was), []byte(wrongDiffID)))
	}
	t.Fatal("there is no config")
	return nil
}

// reforged gives a file of that is named by its digest another content, and all
// that name it its new digest.
func reforged(entries []entry, i int, content []byte) []entry {
	before, after := sha256.Sum256(entries[i].Body), sha256.Sum256(content)
	was, is := hex.EncodeToString(before[:]), hex.EncodeToString(after[:])
	entries[i].Body = content
	entries[i].Name = strings.ReplaceAll(entries[i].Name, was, is)
	for j, e := range entries {
		if j == i || len(e.Body) > 100_000 || !bytes.Contains(e.Body, []byte(was)) {
			continue
		}
		// Sizes stay: a digest is as long as another.
		changed := bytes.ReplaceAll(e.Body, []byte(was), []byte(is))
		if sum := sha256.Sum256(e.Body); strings.Contains(e.Name, hex.EncodeToString(sum[:])) {
			entries = reforged(entries, j, changed)
		} else {
			entries[j].Body = changed
		}
	}
	return entries
}

// TestVerifyFinds spoils copies of what all tools write, in each way that there
// is, and has davit verify find it: exit 5, and what is wrong is named.
func TestVerifyFinds(t *testing.T) {
	enabled(t)
	for _, w := range writtenByAll(t) {
		read, write := readTar, writeTar
		if w.isDir(t) {
			read, write = readDir, writeDir
		}
		t.Run(w.what, func(t *testing.T) {
			if _, text := verified(t, write(t, read(t, w.path))); text.code != 0 {
				t.Fatalf("a copy that is not spoiled: exit %d\n%s", text.code, text.stdout)
			}
			for _, f := range faults {
				t.Run(f.what, func(t *testing.T) {
					spoiled, named := f.spoil(t, read(t, w.path))
					path := write(t, spoiled)
					found(t, path, named, f.kinds)
					if !w.isDir(t) && f.what == "flipped byte" {
						found(t, packed(t, "gzip", path), named, f.kinds)
					}
				})
			}
			if w.isDir(t) {
				return
			}
			t.Run("truncated", func(t *testing.T) {
				whole := contents(t, w.path)
				e := read(t, w.path)[layerAt(read(t, w.path))]
				end := bytes.Index(whole, e.Body[:min(len(e.Body), 4096)]) + len(e.Body)/2
				path := filepath.Join(workDir(t), "cut.tar")
				writeFile(t, path, string(whole[:end]))
				found(t, path, called(e.Name), []string{"truncated"})
				found(t, packed(t, "gzip", path), called(e.Name), []string{"truncated"})

				// And a compressed one that is itself cut off.
				compressed := contents(t, packed(t, "gzip", w.path))
				writeFile(t, path, string(compressed[:len(compressed)/2]))
				found(t, path, "", []string{"truncated"})
			})
		})
	}
}

// found checks that davit verify tells of a problem of one of the kinds, and
// names what is wrong.
func found(t *testing.T, path, named string, kinds []string) {
	t.Helper()
	v, text := verified(t, path)
	text.exits(t, 5)
	told := map[string]bool{}
	for _, p := range v.Problems {
		told[p.What] = true
		if !strings.Contains(text.stdout+text.stderr, p.Text) {
			t.Errorf("--json tells of %q, for people it is not told:\n%s%s", p.Text, text.stdout, text.stderr)
		}
	}
	if !slices.ContainsFunc(kinds, func(kind string) bool { return told[kind] }) {
		t.Errorf("the problems of %s are of the kinds %q, want one of %q: %+v", filepath.Base(path), slices.Sorted(maps.Keys(told)), kinds, v.Problems)
	}
	if !strings.Contains(text.stdout+text.stderr, named) {
		t.Errorf("%s is not named:\n%s%s", named, text.stdout, text.stderr)
	}
}
