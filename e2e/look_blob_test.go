//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

// TestBlob writes blobs of distribution's registry, whole and in part: they are
// what was pushed.
func TestBlob(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	x := zstdImage(t)
	m.push(t, "davit/zstd", "1", x.index)
	repository := m.host + "/davit/zstd@"
	for _, l := range x.own.layers {
		want := contents(t, l.path)
		name := repository + l.descriptor.Digest.String()
		path := filepath.Join(workDir(t), "blob")
		runDavit(t, "blob", name, "-o", path).exits(t, 0)
		if !bytes.Equal(contents(t, path), want) {
			t.Errorf("%s is not the blob %s", path, l.descriptor.Digest)
		}
		if got := crane(t, "blob", name); got != string(want) {
			t.Errorf("crane has another blob %s", l.descriptor.Digest)
		}
		whole := runDavit(t, "blob", name)
		whole.exits(t, 0)
		if whole.stdout != string(want) {
			t.Errorf("%s: %d bytes on stdout, want %d", name, len(whole.stdout), len(want))
		}
		size := len(want)
		for ranges, part := range map[string][]byte{
			"0-0":                                  want[:1],
			"1000-1999":                            want[1000:2000],
			fmt.Sprintf("%d-", size-10):            want[size-10:],
			fmt.Sprintf("%d-%d", size-10, size-1):  want[size-10:],
			fmt.Sprintf("0-%d", size-1):            want,
			fmt.Sprintf("%d-%d", size/3, size/3*2): want[size/3 : size/3*2+1],
		} {
			m.forget()
			r := runDavit(t, "blob", name, "--range", ranges)
			r.exits(t, 0)
			if r.stdout != string(part) {
				t.Errorf("--range %s: %d bytes, want %d", ranges, len(r.stdout), len(part))
			}
			if got := m.served(); got > int64(len(part)) {
				t.Errorf("--range %s: %d bytes were served, allowed are %d", ranges, got, len(part))
				m.log(t)
			}
		}
		beyond := runDavit(t, "blob", name, "--range", fmt.Sprintf("%d-%d", size, size+9))
		if beyond.code == 0 || beyond.stdout != "" {
			t.Errorf("a range behind the end: exit %d, %d bytes", beyond.code, len(beyond.stdout))
		}
	}
	config := runDavit(t, "blob", repository+x.own.config.Digest.String())
	config.exits(t, 0)
	if config.stdout != string(x.own.rawConfig) {
		t.Errorf("the config is %s", config.stdout)
	}
	runDavit(t, "blob", repository+"sha256:"+fmt.Sprintf("%x", sha256.Sum256(nil))).exits(t, 3)

	// From the disk too.
	archive := filepath.Join(workDir(t), "image.tar")
	runDavit(t, "pull", m.host+"/davit/zstd:1", "-o", archive).exits(t, 0)
	r := runDavit(t, "blob", archive+"@"+x.own.config.Digest.String())
	r.exits(t, 0)
	if r.stdout != string(x.own.rawConfig) {
		t.Errorf("the config in the archive is %s", r.stdout)
	}
}

// TestBlobKilled kills davit while it writes a large blob, and runs it again:
// what it has is not fetched twice, and nothing stands under the file's name
// before it is whole.
func TestBlobKilled(t *testing.T) {
	enabled(t)
	const size = 100_000_000
	l := random(11, size)
	s := registrytest.Start(t, registrytest.Options{Rate: 4_000_000, SendBuffer: sendBuffer})
	pushed := s.Push("team/fat", "1", registrytest.Image{Layers: []registrytest.Layer{l}})
	name := s.Host() + "/team/fat@" + pushed.Layers[0].Digest.String()
	path := filepath.Join(workDir(t), "blob")
	var before int64
	lost := int64(0)
	for _, part := range []int64{3, 6} {
		open := killAt(t, s, size*part/10, "blob", name, "-o", path, "--quiet")
		lost += int64(open) * slack
		absent(t, path)
		before = s.Stats().BlobBytes
	}
	runDavit(t, "blob", name, "-o", path).exits(t, 0)
	last := s.Stats().BlobBytes - before
	t.Logf("killed at 30%% and 60%%: the last run fetched %s; all together %s", served(last, size), served(s.Stats().BlobBytes, size))
	if most := pushed.Layers[0].Size*11/10 + lost; s.Stats().BlobBytes > most {
		t.Errorf("%d bytes were served, allowed are %d", s.Stats().BlobBytes, most)
	}
	if most := pushed.Layers[0].Size/2 + lost; last > most {
		t.Errorf("the last run fetched %d bytes, allowed are %d", last, most)
	}
	if got := sumOf(t, path); got != pushed.Layers[0].Digest {
		t.Errorf("the file is %s, want %s", got, pushed.Layers[0].Digest)
	}
	absent(t, path+".davit-part")
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file are %v, %v", left, err)
	}
}

// TestBlobFromDistribution does the same against distribution's registry,
// slowed down.
func TestBlobFromDistribution(t *testing.T) {
	enabled(t)
	c := startCounted(t).slowed(10_000_000)
	base := debianBase(t)
	m := makeImage(t, thisPlatform, show, base)
	c.push(t, "davit/debian", "12", single(m))
	d := base.descriptor
	path := filepath.Join(workDir(t), "blob")
	cmd := davitCommand(t, "blob", c.host+"/davit/debian@"+d.Digest.String(), "-o", path, "--quiet")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(patience)
	for c.bytes(d.Digest) < d.Size/2 {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("only %d bytes were asked for", c.bytes(d.Digest))
		}
	}
	_ = cmd.Process.Kill() // it runs: half of the blob is on its way yet
	if err := cmd.Wait(); err == nil {
		t.Fatal("davit ended before it was killed")
	}
	absent(t, path)
	first := c.bytes(d.Digest)
	c.forget()
	runDavit(t, "blob", c.host+"/davit/debian@"+d.Digest.String(), "-o", path).exits(t, 0)
	again := c.bytes(d.Digest)
	t.Logf("of %d bytes %d were served before, %d after", d.Size, first, again)
	// What the proxy has written may stand in the sockets of sixteen connections.
	if most := d.Size - first + 16*slack + d.Size/10; again > most {
		t.Errorf("%d bytes were served after the kill, allowed are %d", again, most)
	}
	if got := sumOf(t, path); got != d.Digest || digest.Digest(got).Validate() != nil {
		t.Errorf("the file is %s, want %s", got, d.Digest)
	}
}
