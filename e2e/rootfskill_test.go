//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/davit-cli/davit/internal/registrytest"
)

// flatKills is how often a pull is killed while it fetches, flatWriteKills
// while it writes what it has made of the layers.
const (
	flatKills      = 6
	flatWriteKills = 3
)

// manyFiles is an image whose layers bring 48 MB over the network in files
// that do not compress, and another 400 MB in ones that do: these take a while
// to write.
func manyFiles() registrytest.Image {
	made := registrytest.Image{Platform: thisPlatform}
	for i := range 3 {
		var files []entry
		for j := range 64 {
			files = append(files, entry{Body: registrytest.RandomBytes(uint64(i*100+j), 250_000)})
			files[j].Name = fmt.Sprintf("random/%d/%02d", i, j)
		}
		made.Layers = append(made.Layers, layersOf(files)...)
	}
	var files []entry
	zeros := make([]byte, 1_000_000)
	for j := range 400 {
		files = append(files, entry{Body: zeros})
		files[j].Name = fmt.Sprintf("zeros/%03d", j)
	}
	made.Layers = append(made.Layers, layersOf(files)...)
	return made
}

// TestRootfsKilled kills davit at random moments while it fetches and while it
// writes, runs it again each time, and checks what it has written in the end,
// and what it fetched for that.
func TestRootfsKilled(t *testing.T) {
	enabled(t)
	dice := newDice(t)
	s := registrytest.Start(t, registrytest.Options{Rate: 2_000_000, SendBuffer: sendBuffer})
	size := s.Push("team/files", "1", manyFiles()).Size()
	pull := []string{"pull", "--quiet", s.Host() + "/team/files:1"}
	dir := workDir(t)
	t.Run("rootfs", func(t *testing.T) {
		k := killed{server: s, size: size, dice: dice, undisturbed: filepath.Join(dir, "undisturbed.tar.zst"), output: filepath.Join(dir, "killed.tar.zst")}
		k.partial = k.output + ".davit-part"
		k.test(t, append(pull, "-f", "rootfs"))
		if got, want := sumOf(t, k.output), sumOf(t, k.undisturbed); got != want {
			t.Errorf("the tar is %s, the undisturbed one %s", got, want)
		}
	})
	t.Run("files", func(t *testing.T) {
		k := killed{server: s, size: size, dice: dice, undisturbed: filepath.Join(dir, "undisturbed"), output: filepath.Join(dir, "killed")}
		k.partial = k.output + ".davit-part"
		k.test(t, append(pull, "-f", "files"))
		same(t, "the tree", untimed(readTree(t, k.undisturbed)), untimed(readTree(t, k.output)))
	})
	t.Run("files, into a directory that is there", func(t *testing.T) {
		k := killed{server: s, size: size, dice: dice, undisturbed: filepath.Join(dir, "undisturbed"), output: filepath.Join(dir, "there")}
		k.partial = filepath.Join(k.output, ".davit-part")
		if err := os.Mkdir(k.output, 0o755); err != nil {
			t.Fatal(err)
		}
		k.test(t, append(pull, "-f", "files"))
		same(t, "the tree", untimed(readTree(t, k.undisturbed)), untimed(readTree(t, k.output)))
	})
}

// untimed leaves the directory itself out: no layer tells what it is like.
func untimed(x fileTree) fileTree {
	delete(x, ".")
	return x
}

// killed is an output whose pull is killed again and again.
type killed struct {
	server      *registrytest.Server
	size        int64 // of all blobs
	dice        *rand.Rand
	undisturbed string // the same output of a pull that nobody disturbs
	output      string
	partial     string
}

func (k killed) test(t *testing.T, pull []string) {
	if _, err := os.Lstat(k.undisturbed); errors.Is(err, fs.ErrNotExist) {
		run(t, davitCommand(t, append(pull, "-o", k.undisturbed)...))
	}
	pull = append(pull, "-o", k.output)
	k.server.ResetRecords()
	var moments []int64
	for range flatKills {
		moments = append(moments, k.dice.Int64N(k.size))
	}
	slices.Sort(moments)
	lost := int64(0)
	for i, moment := range moments {
		open := killAt(t, k.server, moment, pull...)
		lost += int64(open) * slack
		k.nothing(t, fmt.Sprintf("kill %d at %d bytes", i+1, moment))
	}
	room := occupied(k.undisturbed)
	for i := range flatWriteKills {
		part := room * int64(i) / flatWriteKills
		open := k.whileWriting(t, part, pull)
		lost += int64(open) * slack
		k.nothing(t, fmt.Sprintf("a kill when %d of %d bytes were written", part, room))
	}
	run(t, davitCommand(t, pull...))

	total, most := k.server.Stats().BlobBytes, k.size*11/10+lost
	t.Logf("killed %d times: %s; allowed %s", flatKills+flatWriteKills, served(total, k.size), served(most, k.size))
	if total > most {
		t.Errorf("the registry served %d bytes, allowed are %d", total, most)
	}
	if _, err := os.Lstat(k.partial); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the partial is still there: %v", err)
	}
	// Nor is anything else that the killed ones left.
	left, err := filepath.Glob(filepath.Join(filepath.Dir(k.output), "*davit*"))
	if err != nil || len(left) > 0 {
		t.Errorf("beside the output there are %q, %v", left, err)
	}
}

// nothing checks that nothing stands under the output's name.
func (k killed) nothing(t *testing.T, after string) {
	t.Helper()
	entries, err := os.ReadDir(k.output)
	if filepath.Dir(k.partial) == k.output {
		if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(k.partial) {
			t.Fatalf("after %s the directory holds %v, %v", after, entries, err)
		}
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("after %s there is an output: %v, %v", after, entries, err)
	}
}

// whileWriting runs davit and kills it when what it makes of the layers takes
// more than so many bytes on the disk. It returns how many connections were open then.
func (k killed) whileWriting(t *testing.T, bytes int64, pull []string) (open int) {
	t.Helper()
	derived := filepath.Join(k.partial, "derived") // see internal/partial
	cmd := davitCommand(t, pull...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for occupied(derived) <= bytes {
		select {
		case <-poll.C:
		case err := <-ended:
			t.Fatalf("davit ended before it was killed while it wrote: %v\n%s", err, complaints.String())
		}
	}
	open = k.server.Stats().Open
	_ = cmd.Process.Kill() // it may have ended; seen below
	if err := <-ended; cmd.ProcessState.Exited() {
		t.Fatalf("davit ended before it was killed while it wrote: %v\n%s", err, complaints.String())
	}
	if err := k.server.Await(t.Context(), func(now registrytest.Stats) bool { return now.Open == 0 }); err != nil {
		t.Fatal(err)
	}
	return open
}
