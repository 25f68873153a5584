package layout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

const processVariable = "DAVIT_TEST_LAYOUT_PROCESS"

// TestMain makes this program one that pulls into a layout, where it is asked
// to, so that processes of their own meet there.
func TestMain(m *testing.M) {
	if what := os.Getenv(processVariable); what != "" {
		if err := process(what, os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// layerText is a layer's content by its name.
func layerText(name string) string { return strings.Repeat(name+" ", 50_000) }

func processImage(name string, layers []string) image.Image {
	var texts []string
	for _, l := range layers {
		text := layerText(l)
		blobs[digest.FromString(text)] = text
		texts = append(texts, text)
	}
	return named(name, texts...)
}

// process writes an image into the layout, and a line into the log for each
// blob that it fetches. One that is to hang does so with half a blob written.
func process(what, dir, log, name string, layers []string) error {
	img := processImage(name, layers)
	w, err := Create(dir, []image.Image{img}, Options{})
	if err != nil {
		return err
	}
	defer w.Close()
	ctx := context.Background()
	for wanted := img.Blobs(); len(wanted) > 0; {
		var busy []image.Descriptor
		for _, blob := range wanted {
			p, err := w.Place(ctx, blob)
			switch {
			case errors.Is(err, image.ErrBusy):
				busy = append(busy, blob)
				continue
			case err != nil:
				return err
			case p == nil:
				continue
			}
			if err := note(log, blob); err != nil {
				return err
			}
			text := blobs[blob.Digest]
			half := len(text) / 2
			if _, err := p.WriteAt([]byte(text[:half]), 0); err != nil {
				return err
			}
			if what == "hang" {
				fmt.Println("half")
				select {}
			}
			time.Sleep(time.Millisecond) // a slow source, so that others come meanwhile
			if _, err := p.WriteAt([]byte(text[half:]), int64(half)); err != nil {
				return err
			}
			if err := w.Done(blob); err != nil {
				return err
			}
		}
		if wanted = busy; len(wanted) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return w.Commit(ctx)
}

func note(log string, blob image.Descriptor) error {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(blob.Digest.String() + "\n")
	return errors.Join(err, f.Close())
}

func command(t *testing.T, what string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), processVariable+"="+what)
	return cmd
}

func TestManyProcesses(t *testing.T) {
	const processes, rounds = 16, 20
	for round := range rounds {
		dir, log := filepath.Join(t.TempDir(), "layout"), filepath.Join(t.TempDir(), "log")
		var running []*exec.Cmd
		var outputs []*strings.Builder
		var want []string
		for i := range processes {
			name := fmt.Sprintf("app%02d:%d", i, i%3)
			full := "docker.io/library/" + name
			want = append(want, full+"="+full) // each tag is another's too
			cmd := command(t, "write", dir, log, name, fmt.Sprint("own", i), fmt.Sprint("shared", i%4), fmt.Sprint("shared", (i+1)%4), "all")
			var output strings.Builder
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			running, outputs = append(running, cmd), append(outputs, &output)
		}
		for i, cmd := range running {
			if err := cmd.Wait(); err != nil {
				t.Fatalf("round %d, process %d: %v: %s", round, i, err, outputs[i])
			}
		}
		verify(t, dir)
		if got := names(t, dir); !slices.Equal(got, want) {
			t.Fatalf("round %d: the entries are %q, want %q", round, got, want)
		}
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		fetched := strings.Fields(string(b))
		slices.Sort(fetched)
		if n := len(slices.Compact(slices.Clone(fetched))); len(fetched) != n || n != processes+5 {
			t.Fatalf("round %d: %d fetches of %d blobs, want %d of as many", round, len(fetched), n, processes+5)
		}
	}
}

// A process is killed with half a blob; another one that waits for it goes on
// from there.
func TestKilledProcess(t *testing.T) {
	dir, log := filepath.Join(t.TempDir(), "layout"), filepath.Join(t.TempDir(), "log")
	killed := command(t, "hang", dir, log, "a:1", "x", "y")
	out, err := killed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "half\n" {
		t.Fatalf("the process says %q (%v)", line, err)
	}
	img := processImage("b:1", []string{"x", "y"})
	w, err := Create(dir, []image.Image{img}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := img.Blobs()[0]
	if _, err := w.Place(t.Context(), x); !errors.Is(err, image.ErrBusy) {
		t.Errorf("Place: %v, want ErrBusy", err)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed
	p, err := w.Place(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	var there int64
	for _, e := range p.Written() {
		there += e.Len
	}
	if half := x.Size / 2; there < half-64<<10 {
		t.Errorf("%d bytes survived, want %d", there, half)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, "write", dir, log, "b:1", "x", "y").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	verify(t, dir)
	if got := names(t, dir); !slices.Equal(got, []string{"docker.io/library/b:1=1"}) {
		t.Errorf("the entries are %q", got)
	}
}
