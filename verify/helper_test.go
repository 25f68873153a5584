package verify_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/verify"
)

// pulled is an image of the test's registry as davit wrote it, named
// 127.0.0.1:PORT/team/app:v1.
func pulled(t *testing.T, img registrytest.Image, opts davit.PullOptions) (path string, p registrytest.Pushed) {
	t.Helper()
	s := registrytest.Start(t, registrytest.Options{})
	p = s.Push("team/app", "v1", img)
	return pull(t, s, opts), p
}

// pulledIndex is the same of an index.
func pulledIndex(t *testing.T, x registrytest.Index, opts davit.PullOptions) (path string, p registrytest.PushedIndex) {
	t.Helper()
	s := registrytest.Start(t, registrytest.Options{})
	p = s.PushIndex("team/app", "v1", x)
	return pull(t, s, opts), p
}

func pull(t *testing.T, s *registrytest.Server, opts davit.PullOptions) string {
	t.Helper()
	opts.Output = filepath.Join(t.TempDir(), "image")
	if opts.Format != davit.Components { // which have no names
		opts.Tag = "example.com/team/app:v1"
	}
	if _, err := davit.Pull(t.Context(), s.Host()+"/team/app:v1", opts); err != nil {
		t.Fatal(err)
	}
	return opts.Output
}

// twoLayers is an image whose first layer stands there twice.
func twoLayers() registrytest.Image {
	first := registrytest.Layer{Files: []registrytest.File{registrytest.Dir("etc"), registrytest.Text("etc/motd", "hello\n")}}
	second := registrytest.Layer{Files: []registrytest.File{registrytest.Text("etc/issue", strings.Repeat("welcome\n", 1000))}}
	return registrytest.Image{Layers: []registrytest.Layer{first, second, first}}
}

// member is an entry of a tar.
type member struct {
	tar.Header
	body []byte
}

func file(name, body string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, []byte(body)}
}

func link(name, target string) member {
	return member{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil}
}

func readTar(t *testing.T, path string) []member {
	t.Helper()
	in := tar.NewReader(bytes.NewReader(read(t, path)))
	var all []member
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{*h, body})
	}
}

func tarOf(t *testing.T, members []member) []byte {
	t.Helper()
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		h.Size = int64(len(m.body))
		if err := out.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// edit rewrites an archive.
func edit(t *testing.T, path string, change func(all []member) []member) {
	t.Helper()
	write(t, path, tarOf(t, change(readTar(t, path))))
}

// body changes the content of one entry.
func body(t *testing.T, name string, change func(b []byte) []byte) func(all []member) []member {
	return func(all []member) []member {
		i := slices.IndexFunc(all, func(m member) bool { return m.Name == name })
		if i < 0 {
			t.Fatalf("there is no %s", name)
		}
		all[i].body = change(slices.Clone(all[i].body))
		return all
	}
}

// without drops one entry.
func without(t *testing.T, name string) func(all []member) []member {
	return func(all []member) []member {
		less := slices.DeleteFunc(slices.Clone(all), func(m member) bool { return m.Name == name })
		if len(less) == len(all) {
			t.Fatalf("there is no %s", name)
		}
		return less
	}
}

func replace(t *testing.T, old, with string) func([]byte) []byte {
	return func(b []byte) []byte {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("%q is not in %s", old, b)
		}
		return bytes.ReplaceAll(b, []byte(old), []byte(with))
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 1
		return b
	}
}

func blobName(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, path string) verify.Report {
	t.Helper()
	r, err := verify.Check(t.Context(), path, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := verify.Check(t.Context(), path, verify.Options{Jobs: 7})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, again); diff != "" {
		t.Errorf("checked again it is another report (-first +second):\n%s", diff)
	}
	return r
}

// want is a problem: its kind, its subject, and words of its text.
type want struct {
	what    verify.Kind
	subject string
	text    string
}

// wantProblems compares problems, in their order.
func wantProblems(t *testing.T, r verify.Report, wants ...want) {
	t.Helper()
	ok := len(r.Problems) == len(wants)
	for i := 0; ok && i < len(wants); i++ {
		p, w := r.Problems[i], wants[i]
		ok = p.What == w.what && p.Subject == w.subject && strings.Contains(p.Text, w.text)
	}
	if !ok {
		t.Errorf("problems:\n%s", cmp.Diff(wants, r.Problems))
	}
	if r.OK() != (len(wants) == 0) {
		t.Errorf("OK is %v with %d problems", r.OK(), len(wants))
	}
}

// wantTakes compares which loaders take it.
func wantTakes(t *testing.T, r verify.Report, docker, containerd, podman bool) {
	t.Helper()
	got := map[string]bool{}
	for _, l := range r.Loaders {
		got[l.Name] = l.Takes
		if !l.Takes && l.Why == "" {
			t.Errorf("%s does not take it, and nothing says why", l.Name)
		}
	}
	if diff := cmp.Diff(map[string]bool{"docker": docker, "containerd": containerd, "podman": podman}, got); diff != "" {
		t.Errorf("loaders that take it (-want +got):\n%s\n%+v", diff, r.Loaders)
	}
}

func wantNote(t *testing.T, r verify.Report, text string) {
	t.Helper()
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, text) }) {
		t.Errorf("no note has %q: %q", text, r.Notes)
	}
}

// list lists a directory.
func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// tarOfLayer decompresses a layer in gzip.
func tarOfLayer(t *testing.T, layer []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
