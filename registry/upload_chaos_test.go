package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

// uploadChaos is a transport to a registry that answers pushes at random.
type uploadChaos struct {
	mu       sync.Mutex
	random   *rand.Rand
	requests int
	kind     int // of the answers that it gives most often
}

func (c *uploadChaos) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests++; c.requests > 2000 {
		return nil, errors.New("enough")
	}
	header := http.Header{}
	pick := func(of ...string) string { return of[c.random.IntN(len(of))] }
	number := func(of ...int) int { return of[c.random.IntN(len(of))] }
	header.Set("Location", pick("/up", "/up?x=1", "https://uploads.test/x", "https://registry.test/x?y", "http://registry.test/z", "", "https://127.0.0.1/x"))
	header.Set("Range", pick("0-0", "0-5", "0-99", "0-399", "0-999", "0-1000000", "bytes=0-10", "x", "", "0--1", "5-10"))
	header.Set("OCI-Chunk-Min-Length", pick("", "0", "-1", "100", "999999999999999", "x"))
	body := pick("", registrytest.ErrorBody("BLOB_UPLOAD_UNKNOWN", ""), registrytest.ErrorBody("BLOB_UPLOAD_INVALID", ""), registrytest.ErrorBody("DIGEST_INVALID", ""), registrytest.ErrorBody("RANGE_INVALID", ""))
	status := number(200, 201, 202, 204, 400, 404, 405, 409, 411, 413, 416, 417, 500, 501, 503, 307, 401)
	usual := map[string]int{"POST": 202, "GET": 204, "PATCH": 202, "PUT": 201, "HEAD": 404, "DELETE": 204}[req.Method]
	if c.random.IntN(8) > c.kind {
		status = usual
	}
	if status == http.StatusServiceUnavailable && c.random.IntN(2) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}, nil
}

// Whatever a registry answers, a push ends, and soon.
func TestChaosOfUploadsEnds(t *testing.T) {
	data := registrytest.RandomBytes(1, 2000)
	for seed := range uint64(2000) {
		n := &uploadChaos{random: rand.New(rand.NewPCG(seed, 1)), kind: int(seed % 9)} //nolint:gosec // the same at each run
		s := NewSession(Options{Transport: n, Retries: 3})
		r, err := s.Open(ref.Reference{Registry: "registry.test", Repository: "team/app"})
		if err != nil {
			t.Fatal(err)
		}
		r.client.room, r.client.backoff = 400, 1
		for kind, content := range []io.Reader{stream(data), bytes.NewReader(data), rewinding(data)} {
			before := n.requests
			err := r.PushBlob(t.Context(), descriptorOf(data), content)
			if n.requests-before > 400 {
				t.Errorf("seed %d, content %d: %d requests, %v", seed, kind, n.requests-before, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "team/app") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("seed %d, content %d: %v", seed, kind, err)
			}
		}
		_, _ = r.PushManifest(t.Context(), image.Content{Descriptor: descriptorOf(data), Bytes: data}, fmt.Sprint("v", seed))
	}
}
