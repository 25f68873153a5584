package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

// shell runs a line in a directory, as a person types it there.
func shell(t testing.TB, dir, line string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	return run(t, cmd)
}

// joinLine is the command that the checksums' file names for joining.
func joinLine(t testing.TB, sums string) string {
	t.Helper()
	b, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "# join them: "); ok {
			return command
		}
	}
	t.Fatalf("%s tells nobody how to join the parts:\n%s", sums, b)
	return ""
}

// partsIn are the parts of the archive at path that stand there.
func partsIn(t testing.TB, path string) []string {
	t.Helper()
	parts, err := filepath.Glob(path + ".[0-9][0-9][0-9]")
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// TestSplit pulls a real image in parts, joins them with what the checksums' file
// says and loads them into Docker; and has others' tools check them.
func TestSplit(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	debian := debianImage(t)
	r.push(t, "davit/debian", "12", debian.index)
	name := r.host + "/davit/debian:12"
	dir := workDir(t)
	whole, split := filepath.Join(dir, "whole.tar"), filepath.Join(dir, "app.tar")
	run(t, davitCommand(t, "pull", "--quiet", "--output", whole, name))
	run(t, davitCommand(t, "pull", "--quiet", "--output", split, "--split", "5MB", name))
	parts := partsIn(t, split)
	t.Logf("%d parts", len(parts))
	for i, part := range parts {
		info, err := os.Stat(part)
		if err != nil {
			t.Fatal(err)
		}
		if last := i == len(parts)-1; !last && info.Size() != 5_000_000 || last && info.Size() > 5_000_000 {
			t.Errorf("%s has %d bytes", part, info.Size())
		}
	}
	if len(parts) < 2 {
		t.Fatalf("there are %d parts", len(parts))
	}

	t.Log(shell(t, dir, "sha256sum -c app.tar.sha256"))
	run(t, davitCommand(t, "verify", "--quiet", split))
	digest := run(t, davitCommand(t, "digest", whole))
	if got := run(t, davitCommand(t, "digest", parts[0])); got != digest {
		t.Errorf("the parts have the digest %s, the whole %s", got, digest)
	}

	// As coreutils split it: the same parts.
	shell(t, dir, "split -b 5000000 -d -a 3 --numeric-suffixes=1 whole.tar theirs.tar.")
	for i, part := range partsIn(t, filepath.Join(dir, "theirs.tar")) {
		if sumOf(t, part) != sumOf(t, parts[i]) {
			t.Errorf("%s and %s differ", part, parts[i])
		}
	}
	run(t, davitCommand(t, "verify", "--quiet", filepath.Join(dir, "theirs.tar.001")))

	shell(t, dir, joinLine(t, filepath.Join(dir, "app.tar.sha256")))
	if got, want := sumOf(t, split), sumOf(t, whole); got != want {
		t.Errorf("joined they are %s, the whole is %s", got, want)
	}
	a := archive{path: split, image: debian, name: name}
	loads(t, startClassicDocker(t), a, name, configID(a))
}

// TestKilledInParts kills davit at random moments as it pulls in parts, of other
// sizes at times, and checks what it has written in the end.
func TestKilledInParts(t *testing.T) {
	enabled(t)
	dice := newDice(t)
	s := registrytest.Start(t, registrytest.Options{Rate: 4_000_000, SendBuffer: sendBuffer})
	size := s.Push("team/fat", "1", fat).Size()
	name := s.Host() + "/team/fat:1"
	dir := workDir(t)
	undisturbed, killed := filepath.Join(dir, "undisturbed.tar"), filepath.Join(dir, "killed.tar")
	run(t, davitCommand(t, "pull", "--quiet", name, "--output", undisturbed))
	s.ResetRecords()

	var moments []int64
	for range kills / 2 {
		moments = append(moments, dice.Int64N(size))
	}
	slices.Sort(moments)
	lost := int64(0)
	for i, moment := range moments {
		part := "30MB"
		if i%4 == 3 {
			part = fmt.Sprintf("%dMB", 1+dice.Int64N(100))
		}
		open := killAt(t, s, moment, "pull", "--quiet", name, "--output", killed, "--split", part)
		lost += int64(open) * slack
		if parts := partsIn(t, killed); len(parts) > 0 {
			t.Fatalf("after kill %d at %d bytes there are parts: %q", i+1, moment, parts)
		}
	}
	run(t, davitCommand(t, "pull", "--quiet", name, "--output", killed, "--split", "30MB"))
	total := s.Stats().BlobBytes
	most := size*11/10 + lost
	t.Logf("killed %d times: %s; allowed %s", len(moments), served(total, size), served(most, size))
	if total > most {
		t.Errorf("the registry served %d bytes, allowed are %d", total, most)
	}
	t.Log(shell(t, dir, "sha256sum -c killed.tar.sha256"))
	shell(t, dir, joinLine(t, filepath.Join(dir, "killed.tar.sha256")))
	if got, want := sumOf(t, killed), sumOf(t, undisturbed); got != want {
		t.Errorf("joined they are %s, the undisturbed one %s", got, want)
	}
	if _, err := os.Stat(killed + ".davit-part"); !os.IsNotExist(err) {
		t.Errorf("the partial is still there: %v", err)
	}
}
