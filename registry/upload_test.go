package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

// testRoom is what the uploads of tests keep in memory.
const testRoom = 256 << 10

// target opens team/app of a registry that takes pushes.
func target(t *testing.T, s *registrytest.Server, opts Options) *Repository {
	t.Helper()
	return targetIn(t, NewSession(opts), s, "team/app")
}

func targetIn(t *testing.T, session *Session, s *registrytest.Server, name string) *Repository {
	t.Helper()
	r, err := session.Open(ref.Reference{Registry: s.Host(), Repository: name})
	if err != nil {
		t.Fatal(err)
	}
	r.client.backoff, r.client.room = 1, testRoom
	return r
}

// stream gives a blob's bytes once, in order.
func stream(data []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(data)} }

// rewinding gives them again, from the start.
func rewinding(data []byte) io.Reader { return struct{ io.ReadSeeker }{bytes.NewReader(data)} }

func descriptorOf(data []byte) image.Descriptor {
	return image.Descriptor{MediaType: "application/x", Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// holds fails where the registry has not the blob, byte for byte, or an upload
// that is left over.
func holds(t *testing.T, s *registrytest.Server, r *Repository, data []byte) {
	t.Helper()
	d := descriptorOf(data)
	if has, err := r.HasBlob(t.Context(), d); !has || err != nil {
		t.Errorf("the blob is there: %v, %v", has, err)
	}
	content, size, ok := s.Content.Blob(d.Digest)
	if !ok {
		t.Fatal("the registry has no such blob")
	}
	got, err := io.ReadAll(io.NewSectionReader(content, 0, size))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the registry has %d other bytes, %v", len(got), err)
	}
	if n := s.Content.OpenUploads(); n != 0 {
		t.Errorf("%d uploads are left over", n)
	}
}

// uploads are the requests of uploads, in short: POST, PATCH 100, PUT 0.
func uploads(s *registrytest.Server) []string {
	var all []string
	for _, q := range s.Requests() {
		if !strings.Contains(q.Path, "/blobs/uploads/") {
			continue
		}
		text := q.Method
		if q.Method == http.MethodPatch || q.Method == http.MethodPut {
			text += fmt.Sprint(" ", q.Length)
		}
		if q.Status != 0 && q.Status/100 != 2 {
			text += fmt.Sprint(" → ", q.Status)
		}
		all = append(all, text)
	}
	return all
}

func TestPushBlob(t *testing.T) {
	for _, form := range []registrytest.UploadLocation{registrytest.UploadAbsolute, registrytest.UploadRelative, registrytest.UploadBare, registrytest.UploadElsewhere} {
		for name, test := range map[string]struct {
			size    int
			content func([]byte) io.Reader
			want    string
		}{
			"empty":         {0, stream, "POST, PUT 0"},
			"small":         {1000, stream, "POST, PUT 1000"},
			"as large":      {testRoom, stream, "POST, PUT 262144"},
			"larger":        {testRoom + 1, stream, "POST, PATCH 262144, PUT 1"},
			"large":         {3*testRoom - 1, stream, "POST, PATCH 262144, PATCH 262144, PUT 262143"},
			"even":          {2 * testRoom, stream, "POST, PATCH 262144, PUT 262144"},
			"random access": {2<<20 + 7, func(b []byte) io.Reader { return bytes.NewReader(b) }, "POST, PUT 2097159"},
		} {
			s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{Location: form}})
			r := target(t, s, Options{})
			data := registrytest.RandomBytes(1, test.size)
			if has, err := r.HasBlob(t.Context(), descriptorOf(data)); has || err != nil {
				t.Errorf("%s: there before: %v, %v", name, has, err)
			}
			if err := r.PushBlob(t.Context(), descriptorOf(data), test.content(data)); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			holds(t, s, r, data)
			if got := strings.Join(uploads(s), ", "); got != test.want {
				t.Errorf("%s: %s, want %s", name, got, test.want)
			}
			if got := s.Uploaded(descriptorOf(data).Digest); got != int64(test.size) {
				t.Errorf("%s: %d bytes were sent", name, got)
			}
		}
	}
}

// What may happen to an upload that does not keep the blob from its place, and
// how much is sent for it, in pieces of the most that is kept.
func TestPushBlobSurvives(t *testing.T) {
	const pieces = 4
	busy := func(method string) *registrytest.Busy {
		return &registrytest.Busy{Status: 503, Times: 3, Match: registrytest.All(registrytest.UploadRequests, registrytest.By(method))}
	}
	for name, test := range map[string]struct {
		fault func(*registrytest.Options)
		more  int64 // bytes that may be sent again
	}{
		"a cut": {func(o *registrytest.Options) {
			o.Uploads.Cut = &registrytest.UploadCut{After: 100_000, Times: 1}
		}, 0},
		"a cut of the last": {func(o *registrytest.Options) {
			o.Uploads.Cut = &registrytest.UploadCut{After: 100_000, Times: 1, Match: registrytest.By("PUT")}
		}, 0},
		"cuts again and again": {func(o *registrytest.Options) {
			o.Uploads.Cut = &registrytest.UploadCut{After: 50_000}
		}, 0},
		"a cut before all": {func(o *registrytest.Options) {
			o.Uploads.Cut = &registrytest.UploadCut{After: 0, Times: 3}
		}, 0},
		"lost answers": {func(o *registrytest.Options) {
			o.Uploads.Lose = &registrytest.UploadLoss{Times: 2}
		}, 0},
		"the last answer lost": {func(o *registrytest.Options) {
			o.Uploads.Lose = &registrytest.UploadLoss{Times: 1, Match: registrytest.By("PUT")}
		}, 0},
		"busy at first":      {func(o *registrytest.Options) { o.Busy = busy("POST") }, 0},
		"busy in the middle": {func(o *registrytest.Options) { o.Busy = busy("PATCH") }, 0},
		"busy at the end":    {func(o *registrytest.Options) { o.Busy = busy("PUT") }, 0},
		"busy when asked": {func(o *registrytest.Options) {
			o.Busy, o.Uploads.Cut = busy("GET"), &registrytest.UploadCut{After: 5, Times: 1}
		}, 0},
		"stale ranges": {func(o *registrytest.Options) { o.Uploads.StaleRange = true }, 0},
		"stale ranges, a cut": {func(o *registrytest.Options) {
			o.Uploads.StaleRange, o.Uploads.Lose = true, &registrytest.UploadLoss{Times: 1}
		}, 0},
		"nothing told, refused": {func(o *registrytest.Options) {
			o.Uploads.NoStatus, o.Busy = true, busy("PATCH")
		}, 0},
		"no bodies of the last request": {func(o *registrytest.Options) { o.Uploads.NoPut = true }, 0},
		"tokens that end": {func(o *registrytest.Options) {
			o.Auth = &registrytest.Auth{}
			o.Uploads.Revoke = testRoom + 1
		}, 0},
		"forgotten, but not begun": {func(o *registrytest.Options) {
			o.Uploads.Forgets, o.Busy = true, busy("PATCH")
		}, 0},
	} {
		for _, form := range []registrytest.UploadLocation{registrytest.UploadAbsolute, registrytest.UploadElsewhere} {
			o := registrytest.Options{Uploads: &registrytest.Uploads{Location: form}}
			test.fault(&o)
			s := registrytest.Start(t, o)
			r := target(t, s, Options{})
			data := registrytest.RandomBytes(2, pieces*testRoom-1)
			if err := r.PushBlob(t.Context(), descriptorOf(data), stream(data)); err != nil {
				t.Errorf("%s: %v\n%q", name, err, uploads(s))
				continue
			}
			holds(t, s, r, data)
			if got, most := s.Uploaded(descriptorOf(data).Digest), int64(len(data))+test.more; got > most {
				t.Errorf("%s: %d bytes were sent, at most %d were to be\n%q", name, got, most, uploads(s))
			}
			if got := s.Stats().CDNAuthorized; got != 0 {
				t.Errorf("%s: %d requests elsewhere had a credential", name, got)
			}
		}
	}
}

// What is kept of a blob suffices where all of it is.
func TestPushBlobBeginsAnew(t *testing.T) {
	data := registrytest.RandomBytes(3, testRoom)
	large := registrytest.RandomBytes(3, 3*testRoom)
	for name, test := range map[string]struct {
		data    []byte
		content func([]byte) io.Reader
		lost    bool
	}{
		"small":         {data, stream, false},
		"random access": {large, func(b []byte) io.Reader { return bytes.NewReader(b) }, false},
		"rewinding":     {large, rewinding, false},
		"stream":        {large, stream, true},
	} {
		s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{
			Uploads: memregistry.Uploads{Forgets: true},
			Cut:     &registrytest.UploadCut{After: 1000, Times: 2},
		}})
		if test.lost {
			// In the second piece: the first is there no more.
			s.Configure(func(o *registrytest.Options) {
				o.Uploads.Cut.Match = func(r *http.Request) bool { return !strings.HasPrefix(r.Header.Get("Content-Range"), "0-") }
			})
		}
		r := target(t, s, Options{})
		err := r.PushBlob(t.Context(), descriptorOf(test.data), test.content(test.data))
		if !test.lost {
			if err != nil {
				t.Errorf("%s: %v\n%q", name, err, uploads(s))
				continue
			}
			holds(t, s, r, test.data)
			continue
		}
		var again *image.RetryError
		if !errors.Is(err, ErrUploadLost) || !errors.As(err, &again) || errors.Is(err, image.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Content.OpenUploads(); n != 0 {
			t.Errorf("%s: %d uploads are left over", name, n)
		}
		s.Configure(func(o *registrytest.Options) { o.Uploads.Cut = nil })
		if err := r.PushBlob(t.Context(), descriptorOf(test.data), test.content(test.data)); err != nil {
			t.Errorf("%s, anew: %v", name, err)
		}
		holds(t, s, r, test.data)
	}
}

// Bodies that are too large become smaller, and stay so for the session.
func TestPushBlobOfSmallerPieces(t *testing.T) {
	data := registrytest.RandomBytes(4, 12<<20)
	atWill := func(b []byte) io.Reader { return bytes.NewReader(b) }
	for name, test := range map[string]struct {
		uploads registrytest.Uploads
		content func([]byte) io.Reader
		want    string
		then    string
	}{
		"10 MB": {registrytest.Uploads{MaxBody: 10 << 20}, atWill,
			"POST, PUT 12582912 → 413, GET, PATCH 10000000, PUT 2582912", "POST, PATCH 10000000, PUT 2582912"},
		"stream": {registrytest.Uploads{MaxBody: 10 << 20}, stream,
			"POST, PUT 12582912 → 413, GET, PATCH 10000000, PUT 2582912", "POST, PATCH 10000000, PUT 2582912"},
		"4 MiB": {registrytest.Uploads{MaxBody: 4 << 20}, atWill,
			"POST, PUT 12582912 → 413, GET, PATCH 10000000 → 413, GET, PATCH 4194304, PATCH 4194304, PUT 4194304",
			"POST, PATCH 4194304, PATCH 4194304, PUT 4194304"},
		"pieces of 4 MiB": {registrytest.Uploads{MaxPatch: 4 << 20, NoPut: true}, atWill,
			"POST, PUT 12582912 → 405, GET, PATCH 12582912 → 416, GET, PATCH 10000000 → 416, GET, PATCH 4194304, PATCH 4194304, PATCH 4194304, PUT 0",
			"POST, PATCH 4194304, PATCH 4194304, PATCH 4194304, PUT 0"},
	} {
		s := registrytest.Start(t, registrytest.Options{Uploads: &test.uploads})
		r := target(t, s, Options{})
		r.client.room = windowSize
		if err := r.PushBlob(t.Context(), descriptorOf(data), test.content(data)); err != nil {
			t.Errorf("%s: %v\n%q", name, err, uploads(s))
			continue
		}
		holds(t, s, r, data)
		if got := strings.Join(uploads(s), ", "); got != test.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, test.want)
		}
		s.ResetRecords()
		data := slices.Clone(data)
		data[0]++
		if err := r.PushBlob(t.Context(), descriptorOf(data), test.content(data)); err != nil {
			t.Errorf("%s, then: %v", name, err)
		}
		if got := strings.Join(uploads(s), ", "); got != test.then {
			t.Errorf("%s, then:\n%s, want\n%s", name, got, test.then)
		}
	}
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{MaxBody: 1000}})
	err := target(t, s, Options{}).PushBlob(t.Context(), descriptorOf(data), stream(data))
	if statusOf(err) != http.StatusRequestEntityTooLarge || s.Content.OpenUploads() != 0 {
		t.Errorf("no body is small enough: %v, %d uploads left over", err, s.Content.OpenUploads())
	}
}

// A body that is refused for its size is not sent.
func TestPushBlobWaitsForLeave(t *testing.T) {
	data := registrytest.RandomBytes(5, 12<<20)
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{MaxBody: 1 << 20}})
	r := target(t, s, Options{})
	content := &counted{Reader: bytes.NewReader(data)}
	if err := r.PushBlob(t.Context(), descriptorOf(data), content); err != nil {
		t.Fatal(err)
	}
	if content.read != len(data) {
		t.Errorf("%d bytes were read to be sent, of %d", content.read, len(data))
	}
}

// counted counts the bytes that are read of it.
type counted struct {
	*bytes.Reader
	read int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.read += n
	return n, err
}

func TestPushBlobOfMinimalPieces(t *testing.T) {
	data := registrytest.RandomBytes(6, 5*testRoom)
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{
		Uploads: memregistry.Uploads{MinChunk: 2 * testRoom}, Cut: &registrytest.UploadCut{After: testRoom, Times: 2},
	}})
	r := target(t, s, Options{})
	if err := r.PushBlob(t.Context(), descriptorOf(data), stream(data)); err != nil {
		t.Fatalf("%v\n%q", err, uploads(s))
	}
	holds(t, s, r, data)
}

// Where a registry takes no pieces, the next try is in one body.
func TestPushBlobWithoutPieces(t *testing.T) {
	data := registrytest.RandomBytes(7, 3*testRoom)
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{NoPatch: true}})
	r := target(t, s, Options{})
	if err := r.PushBlob(t.Context(), descriptorOf(data), stream(data)); err != nil {
		t.Fatalf("%v\n%q", err, uploads(s))
	}
	holds(t, s, r, data)
	if got, want := strings.Join(uploads(s), ", "), "POST, PATCH 262144 → 405, DELETE, POST, PUT 786432"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// In one body that is cut, what went by is gone.
	s.Configure(func(o *registrytest.Options) { o.Uploads.Cut = &registrytest.UploadCut{After: 2 * testRoom, Times: 1} })
	data[0]++
	if err := r.PushBlob(t.Context(), descriptorOf(data), stream(data)); !errors.Is(err, ErrUploadLost) {
		t.Errorf("cut: %v", err)
	}
	if err := r.PushBlob(t.Context(), descriptorOf(data), stream(data)); err != nil {
		t.Errorf("anew: %v", err)
	}
	holds(t, s, r, data)
	short := data[:len(data)-1]
	if err := r.PushBlob(t.Context(), image.Descriptor{Digest: digest.FromString("x"), Size: int64(len(data))}, stream(short)); !errors.Is(err, image.ErrVerification) {
		t.Errorf("too short: %v", err)
	}
}

func TestPushBlobErrors(t *testing.T) {
	data := registrytest.RandomBytes(8, 3*testRoom)
	d := descriptorOf(data)
	broken := errors.New("the source broke")
	other := digest.FromString("other")
	for name, test := range map[string]struct {
		options registrytest.Options
		d       image.Descriptor
		content io.Reader
		is      error
		says    string
	}{
		"no digest": {d: image.Descriptor{Digest: "sha256:../x"}, content: stream(data), says: "push blob to team/app: "},
		"no size":   {d: image.Descriptor{Digest: d.Digest, Size: -1}, content: stream(data), is: image.ErrVerification},
		"too short": {d: d, content: stream(data[1:]), is: image.ErrVerification, says: "read its content: "},
		"too long":  {d: d, content: stream(append(slices.Clone(data), 1)), is: image.ErrVerification, says: "more than 786432 bytes"},
		"broken":    {d: d, content: io.MultiReader(stream(data[:2*testRoom]), failingReader{broken}), is: broken, says: "push blob team/app@" + d.Digest.String() + ": read its content: the source broke"},
		"wrong bytes": {d: image.Descriptor{Digest: other, Size: d.Size}, content: stream(data), is: image.ErrVerification,
			says: "400 Bad Request: provided digest did not match uploaded content"},
		"another digest told": {options: registrytest.Options{Uploads: &registrytest.Uploads{Told: other}}, d: d, content: stream(data), is: image.ErrVerification, says: "it says that it took " + other.String()},
		"may not push": {options: registrytest.Options{Auth: &registrytest.Auth{Push: func(string, string) bool { return false }}}, d: d, content: stream(data), is: image.ErrUnauthorized,
			says: "the token needs the scope repository:team/app:pull,push"},
		"refused": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: registrytest.Pieces, Status: 409, Body: registrytest.ErrorBody("DENIED", "quota exceeded")}}}, d: d, content: stream(data),
			says: "409 Conflict: quota exceeded"},
		"in trouble": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: registrytest.Pieces, Status: 500}}}, d: d, content: stream(data), says: "500 Internal Server Error"},
		"always cut": {options: registrytest.Options{Uploads: &registrytest.Uploads{Cut: &registrytest.UploadCut{}}}, d: d, content: stream(data), says: "the connection was cut"},
		"always cut, at will": {options: registrytest.Options{Uploads: &registrytest.Uploads{Cut: &registrytest.UploadCut{}, Uploads: memregistry.Uploads{Forgets: true}}}, d: d,
			content: bytes.NewReader(data), says: "the connection was cut"},
		"no upload is kept": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: registrytest.Pieces, Status: 404, Body: registrytest.ErrorBody("BLOB_UPLOAD_UNKNOWN", "gone")}}}, d: d, content: rewinding(data),
			says: "404 Not Found: gone"},
		"no repository": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: registrytest.By("POST"), Status: 404, Body: registrytest.ErrorBody("NAME_UNKNOWN", "make it first")}}}, d: d, content: stream(data),
			is: image.ErrNotFound, says: "404 Not Found: make it first"},
		"no Location": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: registrytest.By("POST"), Status: 202}}}, d: d, content: stream(data), says: "without a Location"},
	} {
		if test.options.Uploads == nil {
			test.options.Uploads = &registrytest.Uploads{}
		}
		s := registrytest.Start(t, test.options)
		r := target(t, s, Options{})
		err := r.PushBlob(t.Context(), test.d, test.content)
		if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), " from 127") {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Content.OpenUploads(); n != 0 && name != "no upload is kept" {
			t.Errorf("%s: %d uploads are left over: %q", name, n, uploads(s))
		}
	}
}

type failingReader struct{ error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.error }

// An upload whose context ends is left as it is.
func TestPushBlobIsCancelled(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{}})
	r := target(t, s, Options{})
	data := registrytest.RandomBytes(9, 3*testRoom)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	content := io.MultiReader(stream(data[:2*testRoom]), readerFunc(func([]byte) (int, error) {
		cancel(why)
		return 0, context.Cause(ctx)
	}))
	if err := r.PushBlob(ctx, descriptorOf(data), content); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	if n := s.Content.OpenUploads(); n != 1 {
		t.Errorf("%d uploads are there", n)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// Uploads that a registry has sent to where it must not.
func TestPushBlobElsewhere(t *testing.T) {
	data := registrytest.RandomBytes(10, 100)
	for _, to := range []string{"http://169.254.169.254/x", "http://evil.test/x", "ftp://evil.test/x", "http://metadata.google.internal/x", "https://127.0.0.2:1/x", "https://localhost:1/x"} {
		n := &internet{hosts: map[string]http.HandlerFunc{registryOrigin: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusAccepted)
		}}, other: tempting}
		r, err := NewSession(Options{Transport: n, Retries: -1}).Open(ref.Reference{Registry: "registry.test", Repository: "team/app"})
		if err != nil {
			t.Fatal(err)
		}
		err = r.PushBlob(t.Context(), descriptorOf(data), stream(data))
		if err == nil || slices.ContainsFunc(n.asked, func(origin string) bool { return origin != registryOrigin }) {
			t.Errorf("%s: %v, asked %q", to, err, n.asked)
		}
		if strings.HasPrefix(to, "http") && !errors.Is(err, ErrUploadURL) {
			t.Errorf("%s: %v", to, err)
		}
	}
}
