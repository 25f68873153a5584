package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

// copyLanes is how many blobs davit copy has under way at once.
const copyLanes = 8

// landed is distribution's registry behind a proxy that counts, upload by upload,
// the bytes that are sent to it.
type landed struct {
	host string // the proxy's

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	open    int           // requests under way
	uploads map[string]*landing
	run     int  // of davit, the one under way
	held    bool // manifests are
	waiting int  // manifests that are held
}

// landing is an upload.
type landing struct {
	run   int           // of davit, in which it was begun
	head  []byte        // the first of its bytes, by which its blob is known
	bytes int64         // of bodies
	blob  digest.Digest // once the registry has it
}

const headOfUpload = 4 << 10

func startLanded(t testing.TB) *landed {
	t.Helper()
	l := &landed{uploads: map[string]*landing{}, changed: make(chan struct{})}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: startRegistry(t).host})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.Request.Method == http.MethodPut && resp.StatusCode == http.StatusCreated && strings.Contains(resp.Request.URL.Path, "/blobs/uploads/") {
			l.change(func() {
				l.upload(resp.Request.URL.Path).blob = digest.Digest(resp.Request.URL.Query().Get("digest"))
			})
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.change(func() { l.open++ })
		defer l.change(func() { l.open-- })
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && l.holds() {
			_, _ = io.Copy(io.Discard, r.Body) // else nobody sees that the client has gone
			<-r.Context().Done()
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/uploads/") && r.Method != http.MethodPost {
			r.Body = &landingBody{r.Body, func(p []byte) {
				l.change(func() { l.upload(r.URL.Path).took(p) })
			}}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	l.host = strings.TrimPrefix(server.URL, "http://")
	return l
}

type landingBody struct {
	io.ReadCloser
	took func([]byte)
}

func (b *landingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.took(p[:n])
	return n, err
}

func (u *landing) took(p []byte) {
	u.head = append(u.head, p[:min(len(p), headOfUpload-len(u.head))]...)
	u.bytes += int64(len(p))
}

// upload is that of a URL's path. The caller holds the lock.
func (l *landed) upload(path string) *landing {
	if l.uploads[path] == nil {
		l.uploads[path] = &landing{run: l.run}
	}
	return l.uploads[path]
}

func (l *landed) change(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
	close(l.changed)
	l.changed = make(chan struct{})
}

// holds tells whether a manifest is to be held, and notes that it is.
func (l *landed) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		l.waiting++
		close(l.changed)
		l.changed = make(chan struct{})
	}
	return l.held
}

// await waits until reached, which is called with the lock held.
func (l *landed) await(ctx context.Context, reached func() bool) error {
	for {
		l.mu.Lock()
		done, changed := reached(), l.changed
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// blobOf is the blob of an image that an upload was of; empty for a config, or
// where nothing was sent.
func (u *landing) blobOf(p registrytest.Pushed) digest.Digest {
	if u.blob != "" {
		return u.blob
	}
	for i, d := range p.Layers {
		if len(u.head) > 0 && bytes.HasPrefix(p.LayerBytes(i)[:min(d.Size, headOfUpload)], u.head) {
			return d.Digest
		}
	}
	return ""
}

// copied is what the runs of one copy have brought.
type copiedBlobs struct {
	sent map[digest.Digest]int64 // in one run
	lost []int64                 // bytes of what was under way when it ended
}

// of sums up a run.
func (l *landed) of(run int, p registrytest.Pushed) copiedBlobs {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := copiedBlobs{sent: map[digest.Digest]int64{}}
	for _, u := range l.uploads {
		if u.run == run && u.bytes > 0 {
			c.sent[u.blobOf(p)] += u.bytes
			if u.blob == "" {
				c.lost = append(c.lost, u.bytes)
			}
		}
	}
	return c
}

// has are the blobs that the registry has told that it has.
func (l *landed) has() map[digest.Digest]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	has := map[digest.Digest]bool{}
	for _, u := range l.uploads {
		if u.blob != "" {
			has[u.blob] = true
		}
	}
	return has
}

// fewLargeManySmall is an image of 230 MB: some large layers, and many that are not.
func fewLargeManySmall() registrytest.Image {
	var made registrytest.Image
	for i, size := range []int64{60_000_000, 40_000_000, 20_000_000, 20_000_000} {
		made.Layers = append(made.Layers, random(uint64(100+i), size))
	}
	for i := range int64(30) {
		made.Layers = append(made.Layers, random(uint64(i), 1_500_000+i*100_000))
	}
	return made
}

// TestCopyKilled kills a copy at random moments, runs it again each time, and
// checks what each run sent: what the registry had before is neither read nor
// sent again.
func TestCopyKilled(t *testing.T) {
	enabled(t)
	dice := newDice(t)
	// At this rate a run takes some seconds, with sixteen connections.
	source := registrytest.Start(t, registrytest.Options{Rate: 3_000_000, SendBuffer: sendBuffer})
	pushed := source.Push("team/many", "1", fewLargeManySmall())
	to := startLanded(t)
	command := []string{"copy", "--quiet", source.Host() + "/team/many:1", to.host + "/team/many:1"}

	var sent, lost int64
	size := pushed.Size()
	// after checks what a run has sent, given what was there before it.
	after := func(had map[digest.Digest]bool, read map[digest.Digest]int64) {
		t.Helper()
		if err := to.await(t.Context(), func() bool { return to.open == 0 }); err != nil {
			t.Fatal(err)
		}
		run := to.run
		c := to.of(run, pushed)
		if len(c.lost) > copyLanes {
			t.Errorf("run %d: %d blobs were under way", run, len(c.lost))
		}
		for _, n := range c.lost {
			lost += n
		}
		for d, n := range c.sent {
			sent += n
			if had[d] {
				t.Errorf("run %d: %d bytes of %s were sent, which is there", run, n, d)
			}
		}
		for _, d := range pushed.Layers {
			if n := c.sent[d.Digest]; n > d.Size {
				t.Errorf("run %d: %d bytes of %s were sent, which has %d", run, n, d.Digest, d.Size)
			}
			if n := source.BlobBytesOf(d.Digest) - read[d.Digest]; n > 0 && had[d.Digest] {
				t.Errorf("run %d: %d bytes of %s were read, which is there", run, n, d.Digest)
			}
		}
		to.change(func() { to.run++ })
	}
	before := func() (map[digest.Digest]bool, map[digest.Digest]int64) {
		read := map[digest.Digest]int64{}
		for _, d := range pushed.Layers {
			read[d.Digest] = source.BlobBytesOf(d.Digest)
		}
		return to.has(), read
	}
	for range kills {
		had, read := before()
		missing := size
		for _, d := range pushed.Layers {
			if had[d.Digest] {
				missing -= d.Size
			}
		}
		// So many bytes of what is missing are read until the kill.
		killAt(t, source, source.Stats().BlobBytes+dice.Int64N(missing/2), command...)
		after(had, read)
	}
	t.Logf("after %d kills %d of %d blobs are there", kills, len(to.has()), len(pushed.Layers))

	// Once more when all is there but the manifest.
	had, read := before()
	to.change(func() { to.held = true })
	to.killAtManifest(t, command...)
	after(had, read)
	to.change(func() { to.held = false })

	had, read = before()
	runDavit(t, command...).exits(t, 0)
	after(had, read)
	t.Logf("%s were sent; %.1f MB were under way at the kills; the source served %s", served(sent, size), float64(lost)/1e6, served(source.Stats().BlobBytes, size))
	if sent > size+lost {
		t.Errorf("%d bytes were sent, allowed are %d", sent, size+lost)
	}
	if c := to.of(to.run-1, pushed); len(c.sent) > 0 {
		t.Errorf("blobs were sent when nothing but the manifest was missing: %v", c.sent)
	}
	copied := filepath.Join(workDir(t), "layout")
	runDavit(t, "copy", to.host+"/team/many:1", "oci:"+copied+":1").exits(t, 0)
	if got := readLayout(t, copied).index.Manifests[0].Digest; got != pushed.Manifest.Digest {
		t.Errorf("the copy is %s, want %s", got, pushed.Manifest.Digest)
	}
}

// killAtManifest runs davit until it sends a manifest, which is held.
func (l *landed) killAtManifest(t *testing.T, args ...string) {
	t.Helper()
	killWhen(t, func(ctx context.Context) error { return l.await(ctx, func() bool { return l.waiting > 0 }) }, args...)
}
