package split

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit/image"
)

func bytesOf(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// writeParts writes content into a directory of parts, as an output has it
// before its commit.
func writeParts(t *testing.T, dir string, content []byte, part int64) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := rowIn(dir, int64(len(content)), part)
	if _, err := r.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func rowIn(dir string, size, part int64) *Row {
	path := func(n int) string { return filepath.Join(dir, PartName(n)) }
	return NewRow(size, part, path, func(n int) (*os.File, error) {
		return os.OpenFile(path(n), os.O_RDWR|os.O_CREATE, 0o666)
	})
}

// commit commits content to output.
func commit(t *testing.T, output string, content []byte, part int64) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(output), "partial")
	writeParts(t, dir, content, part)
	if err := Commit(t.Context(), dir, output, int64(len(content)), part, nil); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

// files are the names in a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// read opens what stands at path in parts, and reads it.
func read(t *testing.T, path string) []byte {
	t.Helper()
	set, err := Find(path)
	if err != nil || set == nil {
		t.Fatalf("Find: %v, %v", set, err)
	}
	r, err := set.Open()
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, set.Size))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestNumber(t *testing.T) {
	for name, want := range map[string]struct {
		path string
		n    int
		ok   bool
	}{
		"x.tar.001":          {"x.tar", 1, true},
		"dir/x.tar.999":      {"dir/x.tar", 999, true},
		"x.tar.000":          {"x.tar", 0, true},
		"x.tar":              {},
		"x.tar.01":           {},
		"x.tar.0001":         {},
		"x.tar.-01":          {},
		"x.tar.a01":          {},
		".001":               {},
		"dir/.001":           {},
		"x.tar.001.sha256":   {},
		"registry.lan.1.002": {"registry.lan.1", 2, true},
	} {
		if path, n, ok := Number(name); path != want.path || n != want.n || ok != want.ok {
			t.Errorf("%s: %q, %d, %v", name, path, n, ok)
		}
	}
}

func TestCheckCount(t *testing.T) {
	if err := CheckCount(999_000_000, 1_000_000); err != nil {
		t.Errorf("999 parts: %v", err)
	}
	err := CheckCount(999_000_001, 1_000_000)
	if err == nil || !strings.HasSuffix(err.Error(), "parts of 2MB are large enough") {
		t.Errorf("1000 parts: %v", err)
	}
	if n := Count(1_000_001, 1_000_000); n != 2 {
		t.Errorf("%d parts", n)
	}
	if n := Count(0, 1_000_000); n != 1 {
		t.Errorf("%d parts of nothing", n)
	}
}

// Pieces come at any offset, over the ends of parts, of more parts than are open
// at once, from many goroutines.
func TestRow(t *testing.T) {
	content := bytesOf(100_003)
	const part = 1000
	r := rowIn(t.TempDir(), int64(len(content)), part)
	defer func() { _ = r.Close() }()
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(content)/777 + 1)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := worker; i < len(order); i += 4 {
				from := order[i] * 777
				to := min(from+777, len(content))
				if n, err := r.WriteAt(content[from:to], int64(from)); n != to-from || err != nil {
					t.Errorf("WriteAt %d: %d, %v", from, n, err)
				}
			}
		})
	}
	group.Wait()
	if n := len(r.files); n > maxOpen+4 {
		t.Errorf("%d parts are open", n)
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, int64(len(content))))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("it reads back %d bytes, %v", len(got), err)
	}
	b := make([]byte, 10)
	if n, err := r.ReadAt(b, int64(len(content))-3); n != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
	if n, err := r.ReadAt(b, int64(len(content))); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadAt(b, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestRowTruncate(t *testing.T) {
	dir := t.TempDir()
	r := rowIn(dir, -1, 100)
	defer func() { _ = r.Close() }()
	if _, err := r.WriteAt(bytesOf(450), 0); err != nil || r.Parts() != 5 {
		t.Fatalf("%d parts, %v", r.Parts(), err)
	}
	for _, step := range []struct {
		size int64
		want string
	}{{250, "[001 002 003]"}, {200, "[001 002]"}, {300, "[001 002]"}, {0, "[001]"}} {
		if err := r.Truncate(step.size); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(files(t, dir)); got != step.want {
			t.Errorf("of %d bytes: %s, want %s", step.size, got, step.want)
		}
	}
}

func TestCommit(t *testing.T) {
	dir := t.TempDir()
	output := filepath.Join(dir, "my app.tar")
	content := bytesOf(2500)
	commit(t, output, content, 1000)
	if diff := cmp.Diff([]string{"my app.tar.001", "my app.tar.002", "my app.tar.003", "my app.tar.sha256"}, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(read(t, output), content) || !bytes.Equal(read(t, Name(output, 1)), content) {
		t.Error("it reads back otherwise")
	}
	var want strings.Builder
	fmt.Fprintf(&want, `# my app.tar in parts, my app.tar.001 to my app.tar.003
# bytes of the whole: 2500
# sha256 of the whole: %x
# check the parts: sha256sum -c 'my app.tar.sha256'
# join them: cat 'my app.tar'.[0-9][0-9][0-9] > 'my app.tar'
# join them on Windows: copy /b "my app.tar.001"+"my app.tar.002"+"my app.tar.003" "my app.tar"
# load them without joining: cat 'my app.tar'.[0-9][0-9][0-9] | docker load
`, sha256.Sum256(content))
	for i, b := range [][]byte{content[:1000], content[1000:2000], content[2000:]} {
		fmt.Fprintf(&want, "%x  my app.tar.00%d\n", sha256.Sum256(b), i+1)
	}
	got, err := os.ReadFile(SumsName(output))
	if diff := cmp.Diff(want.String(), string(got)); err != nil || diff != "" {
		t.Error(err, diff)
	}

	// A shorter one in its place leaves nothing of the longer one.
	commit(t, output, content[:900], 1000)
	if diff := cmp.Diff([]string{"my app.tar.001", "my app.tar.sha256"}, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(read(t, output), content[:900]) {
		t.Error("the shorter one reads back otherwise")
	}
}

// A commit that was killed at any moment is taken back, and then done.
func TestCommitKilled(t *testing.T) {
	old, content := bytesOf(4500), bytes.Repeat([]byte("new"), 800)
	for steps := 0; ; steps++ {
		dir := t.TempDir()
		output, parts := filepath.Join(dir, "x.tar"), filepath.Join(dir, "partial")
		commit(t, output, old, 1000)
		writeParts(t, parts, content, 1000)
		moves, err := plan(parts, output, 3)
		if err != nil {
			t.Fatal(err)
		}
		if steps == len(moves) {
			break
		}
		sums := Sums{Size: int64(len(content)), Parts: []string{hexZero, hexZero, hexZero}}
		write(t, filepath.Join(parts, sumsName), sums.Format(output))
		for _, m := range moves[:steps] {
			if err := os.Rename(m.from, m.to); err != nil {
				t.Fatal(err)
			}
		}
		// Whoever reads now gets the old one, or the new one, or an error.
		if set, err := Find(output); err == nil && set != nil {
			if b := read(t, output); !bytes.Equal(b, old) && !bytes.Equal(b, content) {
				t.Errorf("after %d steps a reader gets %d bytes of both", steps, len(b))
			}
		}
		if err := Undo(parts, output); err != nil {
			t.Fatalf("Undo after %d steps: %v", steps, err)
		}
		if !bytes.Equal(read(t, output), old) {
			t.Errorf("after %d steps the old one is not there again", steps)
		}
		if err := Undo(parts, output); err != nil {
			t.Errorf("Undo once more: %v", err)
		}
		if err := Commit(t.Context(), parts, output, int64(len(content)), 1000, nil); err != nil {
			t.Fatalf("Commit: %v", err)
		}
		if !bytes.Equal(read(t, output), content) {
			t.Errorf("after %d steps and a second commit it reads back otherwise", steps)
		}
	}
}

var hexZero = hex.EncodeToString(make([]byte, sha256.Size))

// A commit that fails leaves everything as it was.
func TestCommitFails(t *testing.T) {
	dir := t.TempDir()
	output, parts := filepath.Join(dir, "x.tar"), filepath.Join(dir, "partial")
	content := bytesOf(2500)
	for name, try := range map[string]func() error{
		"the whole is there": func() error {
			write(t, output, nil)
			defer func() { _ = os.Remove(output) }()
			return Commit(t.Context(), parts, output, 2500, 1000, nil)
		},
		"a part of another tool": func() error {
			write(t, Name(output, 0), nil)
			defer func() { _ = os.Remove(Name(output, 0)) }()
			return Commit(t.Context(), parts, output, 2500, 1000, nil)
		},
		"a directory": func() error {
			if err := os.Mkdir(Name(output, 2), 0o777); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.Remove(Name(output, 2)) }()
			return Commit(t.Context(), parts, output, 2500, 1000, nil)
		},
		"another size":   func() error { return Commit(t.Context(), parts, output, 2400, 1000, nil) },
		"too many parts": func() error { return Commit(t.Context(), parts, output, 2500, 2, nil) },
		"interrupted": func() error {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(errors.New("interrupted"))
			return Commit(ctx, parts, output, 2500, 1000, nil)
		},
		"a rename": func() error { // of the last part, to a directory that is gone
			moves, err := plan(parts, output, 3)
			if err != nil || len(moves) != 4 {
				t.Fatal(moves, err)
			}
			return Commit(t.Context(), parts, filepath.Join(dir, "none", "x.tar"), 2500, 1000, nil)
		},
	} {
		writeParts(t, parts, content, 1000)
		before := files(t, dir)
		if err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if _, err := os.Stat(filepath.Join(parts, PartName(1))); err != nil {
			t.Errorf("%s: the parts are gone: %v", name, err)
		}
	}
}

func TestCommitTellsHowFarItIs(t *testing.T) {
	dir := t.TempDir()
	parts := filepath.Join(dir, "partial")
	writeParts(t, parts, bytesOf(2500), 1000)
	var last image.Event
	if err := Commit(t.Context(), parts, filepath.Join(dir, "x.tar"), 2500, 1000, func(e image.Event) { last = e }); err != nil {
		t.Fatal(err)
	}
	if last.Kind != image.EventStage || last.Have != 2500 || last.Bytes != 2500 {
		t.Errorf("the last event is %+v", last)
	}
}

// What is no whole set of parts is told, with the part's name.
func TestFindRefuses(t *testing.T) {
	content := bytesOf(2500)
	for name, tt := range map[string]struct {
		spoil func(output string)
		part  string
		want  error
	}{
		"the first is missing":         {func(o string) { _ = os.Remove(Name(o, 1)) }, "x.tar.001", image.ErrNotFound},
		"one in the middle is missing": {func(o string) { _ = os.Remove(Name(o, 2)) }, "x.tar.002", image.ErrNotFound},
		"the last is missing":          {func(o string) { _ = os.Remove(Name(o, 3)) }, "x.tar.003", image.ErrNotFound},
		"one is short":                 {func(o string) { write(t, Name(o, 2), content[:10]) }, "x.tar.002", image.ErrVerification},
		"one is long":                  {func(o string) { write(t, Name(o, 2), content[:1001]) }, "x.tar.002", image.ErrVerification},
		"the last is short":            {func(o string) { write(t, Name(o, 3), content[:10]) }, "x.tar.003", image.ErrVerification},
		"the last is empty":            {func(o string) { write(t, Name(o, 3), nil) }, "x.tar.003", image.ErrVerification},
		"one too many":                 {func(o string) { write(t, Name(o, 3), content[:1000]); write(t, Name(o, 4), content[:1]) }, "x.tar.004", image.ErrVerification},
		"one is a directory":           {func(o string) { _ = os.Remove(Name(o, 2)); _ = os.Mkdir(Name(o, 2), 0o777) }, "x.tar.002", image.ErrVerification},
		"a checksum is none":           {func(o string) { write(t, SumsName(o), []byte("abc  x.tar.001\n")) }, "x.tar.sha256", image.ErrVerification},
		"the order is wrong":           {func(o string) { write(t, SumsName(o), []byte(hexZero+"  x.tar.002\n")) }, "x.tar.sha256", image.ErrVerification},
		"the size is none":             {func(o string) { write(t, SumsName(o), []byte(sizeLabel+"-1\n")) }, "x.tar.sha256", image.ErrVerification},
		"the checksums are fat":        {func(o string) { write(t, SumsName(o), make([]byte, maxSums+1)) }, "x.tar.sha256", image.ErrVerification},
	} {
		output := filepath.Join(t.TempDir(), "x.tar")
		commit(t, output, content, 1000)
		tt.spoil(output)
		set, err := Find(output)
		part, ok := errors.AsType[*Error](err)
		if !ok || part.Part != tt.part || !errors.Is(err, tt.want) || set != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFind(t *testing.T) {
	content := bytesOf(2500)
	output := filepath.Join(t.TempDir(), "x.tar")
	if set, err := Find(output); set != nil || err != nil || Stands(output) || Begun(output) {
		t.Errorf("of nothing: %v, %v", set, err)
	}
	commit(t, output, content, 1000)
	if !Stands(output) || !Begun(output) {
		t.Error("it does not stand there")
	}
	if set, err := Find(Name(output, 2)); set != nil || err != nil {
		t.Errorf("of a second part: %v, %v", set, err)
	}
	if first, ok := First(Name(output, 2)); !ok || first != "x.tar.001" {
		t.Errorf("First: %q, %v", first, ok)
	}

	// Without checksums, or with those of something else, they are as good.
	write(t, SumsName(output), []byte(hexZero+"  x.tar\n"))
	if set, err := Find(output); err != nil || set.Sums != nil {
		t.Errorf("with checksums of the whole: %v", err)
	}
	write(t, SumsName(output), []byte(strings.ToUpper(hexZero)+" *./x.tar.001\r\n"+hexZero+"  x.tar.002\r\n"+hexZero+"  x.tar.003\r\n"))
	if set, err := Find(output); err != nil || len(set.Sums.Parts) != 3 || set.Sums.Parts[0] != hexZero {
		t.Errorf("with checksums of another tool: %v", err)
	}
	if err := os.Remove(SumsName(output)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, output), content) {
		t.Error("it reads back otherwise")
	}

	// The whole wins by its own name.
	write(t, output, content)
	if set, err := Find(output); set != nil || err != nil || Stands(output) {
		t.Errorf("of the whole: %v, %v", set, err)
	}
	if set, err := Find(Name(output, 1)); set == nil || err != nil {
		t.Errorf("of the first part beside the whole: %v, %v", set, err)
	}
}

func TestVerify(t *testing.T) {
	content := bytesOf(2500)
	output := filepath.Join(t.TempDir(), "x.tar")
	commit(t, output, content, 1000)
	set, err := Find(output)
	if err != nil {
		t.Fatal(err)
	}
	if wrong, err := set.Verify(t.Context(), 2, nil); err != nil || len(wrong) > 0 {
		t.Errorf("Verify: %v, %v", wrong, err)
	}
	write(t, Name(output, 2), content[:1000])
	if set, err = Find(output); err != nil {
		t.Fatal(err)
	}
	if wrong, err := set.Verify(t.Context(), 2, nil); err != nil || !cmp.Equal(wrong, []string{"x.tar.002"}) {
		t.Errorf("Verify: %v, %v", wrong, err)
	}
}

// What replaces a part while it is read is not taken for it: a file that is
// opened later, because too many are open, must be the one that was found.
func TestReplacedWhileRead(t *testing.T) {
	content := bytesOf(maxOpen*10 + 25)
	output := filepath.Join(t.TempDir(), "x.tar")
	commit(t, output, content, 10)
	set, err := Find(output)
	if err != nil {
		t.Fatal(err)
	}
	r, err := set.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	other := filepath.Join(t.TempDir(), "other.tar")
	commit(t, other, bytes.Repeat([]byte("x"), len(content)), 10)
	for n := range maxOpen + 3 {
		if err := os.Rename(Name(other, n+1), Name(output, n+1)); err != nil {
			t.Skipf("open files cannot be replaced here: %v", err) // Windows
		}
	}
	b := make([]byte, 10)
	if _, err := r.ReadAt(b, 0); err != nil || !bytes.Equal(b, content[:10]) {
		t.Errorf("an open part: %q, %v", b, err)
	}
	if _, err := r.ReadAt(b, maxOpen*10); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a part that was opened later: %q, %v", b, err)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"x.tar.001", "a\nb.tar", "a\rb.tar"} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"x.tar", "my app.tar", "-x.tar", "it's.tar"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	if got := JoinCommand("dir/it's.tar"); got != `cat 'it'\''s.tar'.[0-9][0-9][0-9]` {
		t.Errorf("JoinCommand: %s", got)
	}
	if got := JoinCommand("-x.tar"); got != `cat ./-x.tar.[0-9][0-9][0-9]` {
		t.Errorf("JoinCommand: %s", got)
	}
}

// What is written of any name is read again, and what sha256sum writes of it in
// binary.
func TestSumsOfAnyName(t *testing.T) {
	sums := Sums{Size: 7, Whole: strings.Repeat("0", 64), Parts: []string{strings.Repeat("a", 64), strings.Repeat("b", 64)}}
	for _, base := range []string{"x.tar", "*x.tar", " x.tar", " *x.tar", "-x.tar", "x y.tar", "#x.tar"} {
		text := sums.Format(base)
		for _, b := range [][]byte{text, bytes.ReplaceAll(text, []byte("a  "), []byte("a *")), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))} {
			got, err := parseSums(b, base)
			if err != nil || got == nil || !slices.Equal(got.Parts, sums.Parts) || got.Size != sums.Size {
				t.Errorf("%q: %+v, %v", base, got, err)
			}
		}
	}
}
