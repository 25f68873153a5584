package tarindex

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit/image"
)

// file is an entry to be written.
type file struct {
	name, content, link string
	kind                byte // 0: a regular file, or a symbolic link where link is set
}

func write(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Linkname: f.link, Typeflag: f.kind, Mode: 0o644, Size: int64(len(f.content))}
		if f.link != "" && f.kind == 0 {
			h.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("write %s: %v", f.name, err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func index(t *testing.T, b []byte) *Index {
	t.Helper()
	x, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return x
}

// content opens a file and reads it.
func content(x *Index, name string) (string, error) {
	r, err := x.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestRead(t *testing.T) {
	long := strings.Repeat("long/", 60) + "name"
	x := index(t, write(t,
		file{name: "./a/", kind: tar.TypeDir},
		file{name: "./a/b", content: strings.Repeat("b", 1000)},
		file{name: long, content: "long"},
		file{name: "empty"},
		file{name: "../up", content: "up"},
		file{name: "pipe", kind: tar.TypeFifo},
		file{name: "a/./l", link: "b"},
		file{name: "h", link: "a/b", kind: tar.TypeLink},
	))
	if !x.Ended {
		t.Error("Ended is false of a whole tar")
	}
	type entry struct {
		Name, Linkname string
		Type           byte
		Size           int64
	}
	var got []entry
	for _, e := range x.Entries {
		got = append(got, entry{e.Name, e.Linkname, e.Type, e.Size})
	}
	want := []entry{
		{"a", "", tar.TypeDir, 0},
		{"a/b", "", tar.TypeReg, 1000},
		{long, "", tar.TypeReg, 4},
		{"empty", "", tar.TypeReg, 0},
		{"../up", "", tar.TypeReg, 2},
		{"pipe", "", tar.TypeFifo, 0},
		{"a/l", "b", tar.TypeSymlink, 0},
		{"h", "a/b", tar.TypeLink, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"a/b": strings.Repeat("b", 1000), long: "long", "empty": "", "a/l": strings.Repeat("b", 1000), "h": strings.Repeat("b", 1000),
	} {
		if got, err := content(x, name); err != nil || got != want {
			t.Errorf("Open(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	// What has no name within the tar still has its content.
	if r, err := x.Section(x.Entries[4]); err != nil {
		t.Errorf("Section of ../up: %v", err)
	} else if b, _ := io.ReadAll(r); string(b) != "up" {
		t.Errorf("Section of ../up = %q", b)
	}
}

func TestTheLastOfANameCounts(t *testing.T) {
	x := index(t, write(t, file{name: "a", content: "one"}, file{name: "l", link: "a"}, file{name: "./a", content: "two"}))
	for _, name := range []string{"a", "l"} {
		if got, err := content(x, name); err != nil || got != "two" {
			t.Errorf("Open(%q) = %q, %v; want two", name, got, err)
		}
	}
	if len(x.Entries) != 3 {
		t.Errorf("%d entries, want all 3", len(x.Entries))
	}
}

func TestFindThroughLinks(t *testing.T) {
	files := []file{
		{name: "1/layer.tar", content: "layer"},
		{name: "2/layer.tar", link: "../1/layer.tar"}, // as docker save writes it
		{name: "3/layer.tar", link: "../2/layer.tar"},
		{name: "4", link: "3/layer.tar", kind: tar.TypeLink},
		{name: "dir", kind: tar.TypeDir},
		{name: "self", link: "self"},
		{name: "hardself", link: "hardself", kind: tar.TypeLink},
		{name: "ping", link: "pong"},
		{name: "pong", link: "ping"},
		{name: "up", link: "../1/layer.tar"},
		{name: "1/up", link: "../../etc/passwd"},
		{name: "root", link: "/1/layer.tar"},
		{name: "hardroot", link: "/1/layer.tar", kind: tar.TypeLink},
		{name: "hardup", link: "../x", kind: tar.TypeLink},
		{name: "dangling", link: "nowhere"},
		{name: "todir", link: "dir"},
		{name: "../1", content: "out"},
		{name: "/abs", content: "out"},
	}
	for i := range 20 {
		files = append(files, file{name: fmt.Sprintf("chain%d", i), link: fmt.Sprintf("chain%d", i+1)})
	}
	files = append(files, file{name: "chain20", content: "far"})
	x := index(t, write(t, files...))

	for _, name := range []string{"1/layer.tar", "2/layer.tar", "3/layer.tar", "4"} {
		if got, err := content(x, name); err != nil || got != "layer" {
			t.Errorf("Open(%q) = %q, %v; want layer", name, got, err)
		}
	}
	if got, err := content(x, "chain6"); err != nil || got != "far" {
		t.Errorf("Open(chain6) = %q, %v; want far", got, err)
	}
	for name, want := range map[string]error{
		"nowhere": image.ErrNotFound, "dangling": image.ErrNotFound, "": image.ErrNotFound, ".": image.ErrNotFound,
		"../1": image.ErrNotFound, "/abs": image.ErrNotFound, "abs": image.ErrNotFound,
		"self": image.ErrVerification, "hardself": image.ErrVerification, "ping": image.ErrVerification,
		"up": image.ErrVerification, "1/up": image.ErrVerification, "root": image.ErrVerification,
		"hardroot": image.ErrVerification, "hardup": image.ErrVerification, "chain0": image.ErrVerification,
		"dir": image.ErrVerification, "todir": image.ErrVerification,
	} {
		if got, err := content(x, name); !errors.Is(err, want) {
			t.Errorf("Open(%q) = %q, %v; want an error that wraps %q", name, got, err, want)
		}
	}
}

// counter counts what is read.
type counter struct {
	io.ReaderAt
	n int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

func TestContentIsNotRead(t *testing.T) {
	b := write(t, file{name: "a", content: strings.Repeat("a", 1<<20)}, file{name: "b", content: strings.Repeat("b", 1<<20)})
	r := &counter{ReaderAt: bytes.NewReader(b)}
	if _, err := Read(r, int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if r.n > 8*512 {
		t.Errorf("%d bytes of %d were read", r.n, len(b))
	}
}

func TestCutOffAnywhere(t *testing.T) {
	long := strings.Repeat("n", 200)
	whole := write(t, file{name: "a", content: strings.Repeat("a", 700)}, file{name: long, content: "b"}, file{name: "c", content: strings.Repeat("c", 512)})
	all := index(t, whole).Entries
	for size := range len(whole) {
		x, err := Read(bytes.NewReader(whole[:size]), int64(size))
		wantEntries := 0
		within := "" // whose content is cut off
		for _, e := range all {
			switch {
			case int64(size) >= e.Offset+e.Size:
				wantEntries++
			case int64(size) >= e.Offset:
				within = e.Name
			}
		}
		if len(x.Entries) != wantEntries {
			t.Fatalf("cut at %d: %d entries, want %d", size, len(x.Entries), wantEntries)
		}
		if x.Ended {
			t.Fatalf("cut at %d: Ended", size)
		}
		var broken *BrokenError
		switch {
		case errors.As(err, &broken):
			if !errors.Is(err, image.ErrVerification) || !broken.Cut || broken.Offset != int64(size) || broken.Entry != within {
				t.Fatalf("cut at %d: %+v, want it cut off within %q", size, broken, within)
			}
		case err != nil || within != "":
			t.Fatalf("cut at %d, within %q: %v", size, within, err)
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	b := write(t, file{name: "a\x1b[2J", content: strings.Repeat("a", 700)})
	_, err := Read(bytes.NewReader(b[:1000]), 1000)
	want := `verification failed: the tar is cut off at byte 1000, within "a\x1b[2J": it has 488 of 700 bytes`
	if err == nil || err.Error() != want {
		t.Errorf("cut off: %v\nwant %s", err, want)
	}
	_, err = Read(bytes.NewReader(b[:100]), 100)
	want = `verification failed: the tar is cut off at byte 100, within a header`
	if err == nil || err.Error() != want {
		t.Errorf("cut off: %v\nwant %s", err, want)
	}
	b = write(t, file{name: "a", content: strings.Repeat("a", 700)}, file{name: "b"})
	b[512+1024+100] ^= 1
	x, err := Read(bytes.NewReader(b), int64(len(b)))
	want = `verification failed: the tar is broken at byte 1536: archive/tar: invalid tar header`
	if err == nil || err.Error() != want || len(x.Entries) != 1 {
		t.Errorf("broken: %v, %d entries\nwant %s", err, len(x.Entries), want)
	}
}

// header is a block with a right checksum, as change leaves it.
func header(t testing.TB, name string, change func(block []byte)) []byte {
	t.Helper()
	block := write(t, file{name: name})[:512]
	change(block)
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

// paxed is an empty file with PAX records, whichever.
func paxed(t testing.TB, name string, records ...string) []byte {
	record := ""
	for _, r := range records {
		record += fmt.Sprintf("%d %s\n", len(r)+4, r)
	}
	pax := header(t, "PaxHeaders/x", func(b []byte) {
		b[156] = 'x'
		copy(b[124:], fmt.Sprintf("%011o\x00", len(record)))
	})
	return bytes.Join([][]byte{pax, []byte(record), make([]byte, 512-len(record)), header(t, name, func([]byte) {})}, nil)
}

func TestHostileSizes(t *testing.T) {
	for name, field := range map[string]string{
		"8 EiB":          "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
		"8 EiB, octal":   "77777777777\x00",
		"more than that": "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"negative":       "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00",
		"no number":      "ninety-nine\x00",
	} {
		b := header(t, "big", func(b []byte) { copy(b[124:], field) })
		b = append(b, make([]byte, 4096)...)
		x, err := Read(bytes.NewReader(b), int64(len(b)))
		if !errors.Is(err, image.ErrVerification) || len(x.Entries) != 0 {
			t.Errorf("%s: %d entries, %v", name, len(x.Entries), err)
		}
	}
}

func TestSparseFilesAreRefused(t *testing.T) {
	old := header(t, "sparse", func(b []byte) {
		copy(b[257:], "ustar  \x00") // GNU's
		b[156] = 'S'
		copy(b[483:], "00000010000\x00")
	})
	for name, b := range map[string][]byte{
		"old":     old,
		"PAX 0.1": paxed(t, "sparse", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,0"),
		"PAX 1.0": append(paxed(t, "sparse", "GNU.sparse.major=1"), make([]byte, 512)...),
	} {
		x, err := Read(bytes.NewReader(append(b, make([]byte, 1024)...)), int64(len(b)+1024))
		if err != nil || len(x.Entries) != 1 || !x.Entries[0].Sparse {
			t.Errorf("%s: %+v, %v; want one sparse file", name, x.Entries, err)
			continue
		}
		if _, err := x.Open("sparse"); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s: Open: %v", name, err)
		}
	}
}

// endless is a tar of one header again and again.
type endless []byte

func (e endless) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], e[(off+int64(n))%int64(len(e)):])
	}
	return len(p), nil
}

func TestLimits(t *testing.T) {
	x, err := Read(endless(header(t, "a", func([]byte) {})), 1<<40)
	if !errors.Is(err, image.ErrVerification) || len(x.Entries) != maxEntries || !strings.Contains(err.Error(), "more than 262144 entries") {
		t.Errorf("entries without end: %d, %v", len(x.Entries), err)
	}
	long := write(t, file{name: strings.Repeat("n", maxName), content: "x"})
	long = long[:len(long)-1024]
	x, err = Read(endless(long), 1<<40)
	if !errors.Is(err, image.ErrVerification) || len(x.Entries) != maxNames/maxName || !strings.Contains(err.Error(), "together") {
		t.Errorf("long names without end: %d, %v", len(x.Entries), err)
	}
	for name, f := range map[string]file{
		"name":   {name: strings.Repeat("n", maxName+1)},
		"target": {name: "a", link: strings.Repeat("n", maxName+1)},
	} {
		b := write(t, f)
		if _, err := Read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, image.ErrVerification) {
			t.Errorf("a long %s: %v", name, err)
		}
	}
}

// failing fails from an offset on.
type failing struct {
	io.ReaderAt
	from int64
}

var errDisk = errors.New("the disk is broken")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestErrorsOfTheFileAreItsOwn(t *testing.T) {
	b := write(t, file{name: "a", content: "a"}, file{name: "b", content: "b"})
	for from := range int64(len(b)) {
		_, err := Read(failing{bytes.NewReader(b), from}, int64(len(b)))
		if !errors.Is(err, errDisk) || errors.Is(err, image.ErrVerification) {
			t.Fatalf("broken from %d: %v", from, err)
		}
	}
}

func TestEnds(t *testing.T) {
	whole := write(t, file{name: "a", content: "a"})
	one := whole[:len(whole)-512]
	none := whole[:len(whole)-1024]
	for name, tt := range map[string]struct {
		b     []byte
		ended bool
	}{
		"two blocks": {whole, true}, "more": {append(bytes.Clone(whole), make([]byte, 9000)...), true},
		"one block": {one, false}, "none": {none, false}, "nothing at all": {nil, false},
	} {
		x, err := Read(bytes.NewReader(tt.b), int64(len(tt.b)))
		if err != nil || x.Ended != tt.ended {
			t.Errorf("%s: Ended %v, %v; want %v", name, x.Ended, err, tt.ended)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{}, "a")
	f.Add(write(f, file{name: "a", content: "content"}, file{name: "b", link: "a"}), "b")
	f.Add(write(f, file{name: strings.Repeat("n", 200), content: "x"}), "a")
	f.Add(paxed(f, "s", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,0"), "s")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		x, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil && !errors.Is(err, image.ErrVerification) {
			t.Errorf("Read: %v", err)
		}
		for _, e := range x.Entries {
			if e.Offset < 0 || e.Size < 0 || e.Size > int64(len(b))-e.Offset {
				t.Errorf("%+v is not within the %d bytes of the tar", e, len(b))
			}
			_, _ = x.Find(e.Name)
		}
		if r, err := x.Open(name); err == nil {
			if n, err := io.Copy(io.Discard, r); err != nil || n != r.Size() {
				t.Errorf("%q: read %d of %d bytes: %v", name, n, r.Size(), err)
			}
		}
	})
}
