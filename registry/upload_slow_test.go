package registry

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

// uploadTaker is a transport to a registry that takes uploads, and tells when
// the first bytes of a piece have come.
type uploadTaker struct {
	first chan struct{} // closed then
	begun bool
	taken int64
}

func (u *uploadTaker) RoundTrip(req *http.Request) (*http.Response, error) {
	for buf := make([]byte, 1000); req.Body != nil; {
		n, err := req.Body.Read(buf)
		if u.taken += int64(n); n > 0 && !u.begun {
			u.begun = true
			close(u.first)
		}
		if err == io.EOF {
			break
		}
		if ctxErr := context.Cause(req.Context()); err == nil {
			err = ctxErr
		}
		if err != nil {
			return nil, err
		}
	}
	status := map[string]int{http.MethodPost: 202, http.MethodPatch: 202, http.MethodPut: 201}[req.Method]
	header := http.Header{"Location": {"/v2/team/app/blobs/uploads/1"}}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

// What a piece is made of is sent while it is read, and the registry is not
// blamed where that takes long.
func TestPushBlobOfSlowContent(t *testing.T) {
	data := registrytest.RandomBytes(1, 3*testRoom)
	synctest.Test(t, func(t *testing.T) {
		u := &uploadTaker{first: make(chan struct{})}
		r, err := NewSession(Options{Transport: u, Retries: -1}).Open(ref.Reference{Registry: "registry.test", Repository: "team/app"})
		if err != nil {
			t.Fatal(err)
		}
		r.client.room = testRoom
		slow := readerFunc(func([]byte) (int, error) {
			<-u.first // of what came before
			time.Sleep(2 * (sendTime + answerTime))
			return 0, io.EOF
		})
		content := io.MultiReader(stream(data[:testRoom/2]), slow, stream(data[testRoom/2:]))
		if err := r.PushBlob(t.Context(), descriptorOf(data), content); err != nil || u.taken != int64(len(data)) {
			t.Errorf("%d bytes were taken, %v", u.taken, err)
		}
	})
}
