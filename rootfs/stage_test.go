package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit/image"
)

// stages collects the events of stages, as "text have/bytes".
type stages struct {
	mu    sync.Mutex
	lines []string
	times []time.Time
}

func (s *stages) event(e image.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind == image.EventStage {
		s.lines = append(s.lines, fmt.Sprintf("%s %d/%d", e.Text, e.Have, e.Bytes))
		s.times = append(s.times, time.Now())
	}
}

// take returns what was collected since the last call.
func (s *stages) take() []string {
	lines := s.lines
	s.lines, s.times = nil, nil
	return lines
}

// slow takes its time for each read and write.
type slow struct {
	*bytes.Reader
	io.Writer
}

func (s slow) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(60 * time.Millisecond)
	return s.Reader.ReadAt(p, off)
}

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Writer.Write(p)
}

// Each stage is told from its begin to its end, a few times a second.
func TestStages(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := tarOf(t, file("a", strings.Repeat("x", 4<<20)), hardlink("b", "a"), file("c", "y"))
		l := asLayer(b)
		l.Blob = slow{Reader: bytes.NewReader(b)}
		var got stages
		tree, err := Merge(context.Background(), []Layer{l}, Options{SpoolDir: dir, Events: got.event})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		for i := 1; i < len(got.times)-1; i++ {
			if d := got.times[i].Sub(got.times[i-1]); d < image.StageInterval {
				t.Errorf("%v after %v", got.lines[i], d)
			}
		}
		lines := got.take()
		if n := len(lines); n < 4 || n > 8 {
			t.Errorf("%d events in %d reads: %q", n, len(b)/(256<<10), lines)
		}
		if first, last := fmt.Sprintf("merge layers 0/%d", len(b)), fmt.Sprintf("merge layers %[1]d/%[1]d", len(b)); lines[0] != first || lines[len(lines)-1] != last {
			t.Errorf("%q", lines)
		}

		if err := tree.WriteTar(context.Background(), slow{Writer: io.Discard}, TarOptions{Events: got.event}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{
			"write tar 0/4194305", "write tar 2096640/4194305", "write tar 3145216/4194305", "write tar 4193792/4194305", "write tar 4194304/4194305", "write tar 4194305/4194305",
		}, got.take()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := tree.Unpack(context.Background(), dir+"/files", UnpackOptions{NoOwner: true, NoSync: true, Events: got.event}); err != nil {
			t.Fatal(err)
		}
		if lines := got.take(); lines[0] != "write files 0/4194305" || lines[len(lines)-1] != "write files 4194305/4194305" {
			t.Errorf("%q", lines)
		}
	})
}

// A stage that fails ends where it stands.
func TestStageFails(t *testing.T) {
	var got stages
	cut := gzipOf(t, tarOf(t, file("a", big)))
	cut = cut[:len(cut)-9]
	if _, err := Merge(context.Background(), []Layer{asLayer(cut)}, Options{SpoolDir: t.TempDir(), Events: got.event}); !errors.Is(err, image.ErrVerification) {
		t.Fatal(err)
	}
	n := len(cut)
	if diff := cmp.Diff([]string{fmt.Sprintf("merge layers 0/%d", n), fmt.Sprintf("merge layers %d/%d", n, n)}, got.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := Verbatim(context.Background(), []Layer{asLayer(cut)}, Options{Events: got.event}); !errors.Is(err, image.ErrVerification) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("check layer 0/%d", n), fmt.Sprintf("check layer %d/%d", n, n)}, got.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	tree := merged(t, layersOf(t, []entry{file("a", big)}), Options{})
	if err := tree.WriteTar(context.Background(), &limitedWriter{0, io.ErrShortWrite}, TarOptions{Events: got.event}); !errors.Is(err, io.ErrShortWrite) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"write tar 0/200000", "write tar 200000/200000"}, got.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Where there is nothing to do, the end is all.
	tree = merged(t, nil, Options{Events: got.event})
	tarred(t, tree, TarOptions{Events: got.event})
	if diff := cmp.Diff([]string{"merge layers 0/0", "write tar 0/0"}, got.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
