package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// registry is distribution's registry, running.
type registry struct {
	host    string
	storage string
}

const registryConfig = `version: 0.1
log:
  level: info
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: %s
  maintenance:
    uploadpurging:
      enabled: false
http:
  addr: 127.0.0.1:0
`

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// startRegistry runs distribution's registry on loopback, with its storage in a
// directory of the test's.
func startRegistry(t testing.TB) *registry {
	t.Helper()
	return serveRegistry(t, filepath.Join(workDir(t), "storage"), "")
}

// guarded runs another registry with the same images, which lets in whom auth
// allows: the part of its configuration of that name. Where auth is empty it
// lets in everybody, as r does.
func (r *registry) guarded(t testing.TB, auth string) *registry {
	t.Helper()
	return serveRegistry(t, r.storage, auth)
}

func serveRegistry(t testing.TB, storage, auth string) *registry {
	t.Helper()
	config := filepath.Join(workDir(t), "config.yml")
	if err := os.WriteFile(config, append(fmt.Appendf(nil, registryConfig, storage), auth...), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(built(t, "registry"), "serve", config)
	cmd.Env = []string{"OTEL_TRACES_EXPORTER=none"}
	p := start(t, "registry", cmd)
	r := registry{storage: storage}
	p.await(t, func() bool {
		if m := listening.FindStringSubmatch(p.tail()); m != nil {
			r.host = m[1]
		}
		return r.host != ""
	})
	return &r
}

// push uploads an image, or an index with all its images, and tags it.
func (r *registry) push(t testing.TB, repository, tag string, x *index) {
	t.Helper()
	for _, m := range x.images {
		for _, l := range m.layers {
			r.pushBlob(t, repository, l.descriptor, l.open(t))
		}
		r.pushBlob(t, repository, m.config, io.NopCloser(bytes.NewReader(m.rawConfig)))
		r.pushManifest(t, repository, m.manifest.Digest.String(), m.manifest, m.raw)
	}
	r.pushManifest(t, repository, tag, x.root, x.raw)
}

func (r *registry) pushBlob(t testing.TB, repository string, d ocispec.Descriptor, body io.ReadCloser) {
	t.Helper()
	defer func() { _ = body.Close() }() // it was read to its end
	begun := r.do(t, http.MethodPost, "http://"+r.host+"/v2/"+repository+"/blobs/uploads/", "", nil, 0, http.StatusAccepted)
	to, err := begun.Location()
	if err != nil {
		t.Fatalf("push %s: %v", d.Digest, err)
	}
	query := to.Query()
	query.Set("digest", d.Digest.String())
	to.RawQuery = query.Encode()
	r.do(t, http.MethodPut, to.String(), "application/octet-stream", body, d.Size, http.StatusCreated)
}

func (r *registry) pushManifest(t testing.TB, repository, name string, d ocispec.Descriptor, raw []byte) {
	t.Helper()
	if digest.FromBytes(raw) != d.Digest {
		t.Fatalf("push %s: not its bytes", d.Digest)
	}
	r.do(t, http.MethodPut, "http://"+r.host+"/v2/"+repository+"/manifests/"+name, d.MediaType, bytes.NewReader(raw), d.Size, http.StatusCreated)
}

func (r *registry) do(t testing.TB, method, url, mediaType string, body io.Reader, size int64, want int) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read to its end
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: %s %s %v", method, url, resp.Status, answer, err)
	}
	return resp
}
