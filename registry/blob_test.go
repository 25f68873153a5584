package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

func TestOpenRange(t *testing.T) {
	b := newBlob(10_000)
	var asked atomic.Pointer[http.Request]
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		asked.Store(req)
		b.send(w, req)
	})
	r := open(t, server, Options{})
	for _, test := range []struct {
		off, n int64
		want   string
	}{
		{0, 10_000, ""},
		{0, 1, "bytes=0-0"},
		{5000, 5000, "bytes=5000-9999"},
		{1, 9998, "bytes=1-9998"},
	} {
		if err := b.check(r, test.off, test.n); err != nil {
			t.Errorf("%d from %d: %v", test.n, test.off, err)
		}
		req := asked.Load()
		if got := req.Header.Get("Range"); got != test.want {
			t.Errorf("%d from %d: Range %q, want %q", test.n, test.off, got, test.want)
		}
		if req.Header.Get("Accept-Encoding") != "identity" || req.ProtoMajor != 1 || req.URL.Path != "/v2/team/app/blobs/"+b.Digest.String() {
			t.Errorf("%s %s, Accept-Encoding %q", req.Proto, req.URL, req.Header.Get("Accept-Encoding"))
		}
	}
	for _, bad := range [][2]int64{{-1, 5}, {0, 0}, {5, -1}, {5, 1<<63 - 1}} {
		if _, err := r.OpenRange(t.Context(), b.Descriptor, bad[0], bad[1]); err == nil {
			t.Errorf("opened %d from %d", bad[1], bad[0])
		}
	}
	if _, err := r.OpenRange(t.Context(), image.Descriptor{Digest: "sha256:../x", Size: 1}, 0, 1); err == nil {
		t.Error("opened a digest that is none")
	}
	empty := newBlob(0)
	whole := serve(t, empty.send)
	if err := empty.check(open(t, whole, Options{}), 0, 0); err != nil {
		t.Errorf("the empty blob: %v", err)
	}
}

func TestBlobIsNotDecompressed(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte("a layer"))
	_ = z.Close()
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	b := newBlob(0)
	b.Size = int64(packed.Len())
	got, err := open(t, server, Options{}).OpenRange(t.Context(), b.Descriptor, 0, b.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if data, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(data, packed.Bytes()) || got.Len != b.Size {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
}

func TestWhatServersMakeOfRanges(t *testing.T) {
	b := newBlob(1000)
	noRanges := func(err error) bool {
		var e *image.NoRangeError
		return errors.As(err, &e)
	}
	for _, test := range []struct {
		name    string
		status  int
		headers map[string]string
		body    []byte
		want    *image.Range // start, total and length; nil: no ranges
	}{
		{"as asked", 206, map[string]string{"Content-Range": "bytes 100-199/1000"}, b.bytes[100:200], &image.Range{Start: 100, Total: 1000, Len: 100}},
		{"total unknown", 206, map[string]string{"Content-Range": "bytes 100-199/*"}, b.bytes[100:200], &image.Range{Start: 100, Total: -1, Len: 100}},
		{"shorter than asked", 206, map[string]string{"Content-Range": "bytes 100-149/150"}, b.bytes[100:150], &image.Range{Start: 100, Total: 150, Len: 50}},
		{"ignored", 200, nil, b.bytes, &image.Range{Start: 0, Total: 1000, Len: 1000}},
		{"no Content-Range", 206, nil, b.bytes[100:200], nil},
		{"multipart", 206, map[string]string{"Content-Type": "multipart/byteranges; boundary=x"}, []byte("--x--"), nil},
		{"another start", 206, map[string]string{"Content-Range": "bytes 0-99/1000"}, b.bytes[:100], nil},
		{"longer than asked", 206, map[string]string{"Content-Range": "bytes 100-200/1000"}, b.bytes[100:201], nil},
		{"beyond the total", 206, map[string]string{"Content-Range": "bytes 100-199/150"}, b.bytes[100:200], nil},
		{"backwards", 206, map[string]string{"Content-Range": "bytes 100-99/1000"}, nil, nil},
		{"other unit", 206, map[string]string{"Content-Range": "lines 100-199/1000"}, b.bytes[100:200], nil},
		{"negative", 206, map[string]string{"Content-Range": "bytes -100--1/1000"}, b.bytes[100:200], nil},
		{"not the Content-Length", 206, map[string]string{"Content-Range": "bytes 100-149/1000"}, b.bytes[100:200], nil},
		{"not satisfiable", 416, nil, nil, nil},
		{"bad request", 400, nil, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Range") == "" {
					b.send(w, req)
					return
				}
				for name, value := range test.headers {
					w.Header().Set(name, value)
				}
				w.WriteHeader(test.status)
				_, _ = w.Write(test.body)
			})
			r := open(t, server, Options{})
			got, err := r.OpenRange(t.Context(), b.Descriptor, 100, 100)
			if test.want == nil {
				var e *image.NoRangeError
				if !errors.As(err, &e) || e.Host != host(server) {
					t.Fatalf("got %v", err)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				defer got.Body.Close()
				data, err := io.ReadAll(got.Body)
				if err != nil || !bytes.Equal(data, test.body) || got.Start != test.want.Start || got.Total != test.want.Total || got.Len != test.want.Len || got.Host != host(server) {
					t.Errorf("got %+v, %v", got, err)
				}
			}
			if err := b.check(r, 0, 1000); err != nil || noRanges(err) {
				t.Errorf("then the whole: %v", err)
			}
		})
	}
}

// cdn is a registry that redirects blobs to signed URLs on another host, which
// hold until they are revoked.
type cdn struct {
	registry, store *httptest.Server
	resolved        atomic.Int32 // redirects that the registry gave
	served          atomic.Int32
	signature       atomic.Int32
	expired         atomic.Int32 // status for signatures that hold no more
}

func newCDN(t *testing.T, b blob) *cdn {
	c := &cdn{}
	c.expired.Store(http.StatusForbidden)
	c.store = serve(t, func(w http.ResponseWriter, req *http.Request) {
		for _, name := range []string{"Authorization", "Cookie", "Referer"} {
			if req.Header.Get(name) != "" {
				t.Errorf("the store was sent %s", name)
			}
		}
		if req.URL.Query().Get("sig") != fmt.Sprint(canary, c.signature.Load()) {
			w.WriteHeader(int(c.expired.Load()))
			_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Request %s has expired</Message></Error>`, req.URL.Query().Get("sig"))
			return
		}
		c.served.Add(1)
		b.send(w, req)
	})
	c.registry = serve(t, func(w http.ResponseWriter, req *http.Request) {
		if user, _, _ := req.BasicAuth(); user != "me" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c.resolved.Add(1)
		http.Redirect(w, req, fmt.Sprintf("%s/data?sig=%s%d", c.store.URL, canary, c.signature.Load()), http.StatusTemporaryRedirect)
	})
	return c
}

func TestRedirectIsResolvedOnce(t *testing.T) {
	b := newBlob(64_000)
	c := newCDN(t, b)
	var sent events
	r := open(t, c.registry, Options{Credentials: given("me", canary), Events: sent.add})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			if err := b.check(r, int64(i)*2000, 2000); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if c.resolved.Load() != 1 || c.served.Load() != 32 {
		t.Errorf("resolved %d times, served %d", c.resolved.Load(), c.served.Load())
	}
	for _, event := range sent.sent {
		if strings.Contains(event.Text, canary) {
			t.Errorf("a secret in %q", event.Text)
		}
	}
	got, err := r.OpenRange(t.Context(), b.Descriptor, 0, b.Size)
	if err != nil {
		t.Fatal(err)
	}
	_ = got.Body.Close()
	if got.Host != host(c.store) {
		t.Errorf("host %q", got.Host)
	}
}

func TestSignedURLThatExpires(t *testing.T) {
	b := newBlob(64_000)
	for _, status := range []int{400, 401, 403, 404, 410} {
		c := newCDN(t, b)
		c.expired.Store(int32(status))
		r := open(t, c.registry, Options{Credentials: given("me", canary)})
		if err := b.check(r, 0, 100); err != nil {
			t.Fatal(err)
		}
		c.signature.Add(1)
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				if err := b.check(r, int64(i)*2000, 2000); err != nil {
					t.Errorf("%d: %v", status, err)
				}
			})
		}
		all.Wait()
		if n := c.resolved.Load(); n != 2 {
			t.Errorf("%d: resolved %d times", status, n)
		}
	}
}

func TestSignedURLThatWasNeverGood(t *testing.T) {
	b := newBlob(1000)
	for _, status := range []int{401, 403, 404, 410, 500, 429} {
		var asked atomic.Int32
		store := serve(t, func(w http.ResponseWriter, req *http.Request) {
			asked.Add(1)
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `<Error><Code>Odd</Code><Message>no %s</Message></Error>`, req.URL.RawQuery)
		})
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, store.URL+"/x?signature="+canary, http.StatusFound)
		})
		err := b.check(open(t, server, Options{}), 0, 100)
		var e *Error
		if !errors.As(err, &e) || e.Status != status || e.Code != "Odd" || e.Host != host(store) || strings.Contains(err.Error(), canary) {
			t.Errorf("%d: %v", status, err)
		}
		if errors.Is(err, image.ErrUnauthorized) {
			t.Errorf("%d: a store's refusal is not about the credential", status)
		}
		if errors.Is(err, image.ErrNotFound) != (status == 404) {
			t.Errorf("%d: %v", status, err)
		}
		if asked.Load() != 1 {
			t.Errorf("%d: %d attempts", status, asked.Load())
		}
	}
}

func TestAuthorizationStaysOnTheOrigin(t *testing.T) {
	b := newBlob(1000)
	const wanted = "Basic bWU6czNjcmV0LWNhbmFyeQ==" // me and the canary
	var registry, other *httptest.Server
	var mu sync.Mutex
	var seen []string // who was sent a credential
	note := func(who string, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for name, values := range req.Header {
			for _, value := range values {
				if value == wanted || strings.Contains(value, canary) {
					seen = append(seen, who+" "+name)
				}
			}
		}
	}
	other = serve(t, func(w http.ResponseWriter, req *http.Request) {
		note("other"+req.URL.Path, req)
		switch req.URL.Path {
		case "/data", "/challenge-data":
			b.send(w, req)
		case "/back":
			http.Redirect(w, req, registry.URL+"/returned", http.StatusFound)
		case "/challenge": // it wants the registry's credential
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	var target string
	registry = serve(t, func(w http.ResponseWriter, req *http.Request) {
		note("registry"+req.URL.Path, req)
		switch {
		case req.URL.Path == "/returned", req.URL.Path == "/own" && req.Header.Get("Authorization") == wanted:
			b.send(w, req)
		case req.Header.Get("Authorization") != wanted:
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
		default:
			http.Redirect(w, req, target, http.StatusFound)
		}
	})
	blobs := "registry/v2/team/app/blobs/" + b.Digest.String() + " Authorization"
	for _, test := range []struct {
		name, target string
		works        bool
		want         []string
	}{
		{"another port", other.URL + "/data", true, []string{blobs}},
		{"a user in the URL", strings.Replace(other.URL, "http://", "http://me:"+canary+"@", 1) + "/data", true, []string{blobs}},
		{"another name of the host", strings.Replace(registry.URL, "127.0.0.1", "localhost", 1) + "/returned", true, []string{blobs}},
		{"away and back", other.URL + "/back", true, []string{blobs}},
		{"a challenge elsewhere", other.URL + "/challenge", false, []string{blobs}},
		{"the registry itself", "/own", true, []string{blobs, "registry/own Authorization"}},
	} {
		target = test.target
		seen = nil
		err := b.check(open(t, registry, Options{Credentials: given("me", canary)}), 0, 1000)
		if (err == nil) != test.works {
			t.Errorf("%s: %v", test.name, err)
		}
		if strings.Join(seen, ", ") != strings.Join(test.want, ", ") {
			t.Errorf("%s: the credential was seen by %q", test.name, seen)
		}
	}
}

func TestBlobRefusals(t *testing.T) {
	b := newBlob(1000)
	for _, test := range []struct {
		status     int
		retryAfter string
		wait       time.Duration
		busy       bool
	}{
		{429, "7", 7 * time.Second, true},
		{429, "", 0, true},
		{503, "100000", MaxRetryAfter, true},
		{503, "Wed, 21 Oct 2015 07:28:10 GMT", 10 * time.Second, true},
		{500, "soon", 0, false},
		{502, "", 0, false},
		{408, "", 0, false},
	} {
		var asked atomic.Int32
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Date", "Wed, 21 Oct 2015 07:28:00 GMT")
			w.Header().Set("Retry-After", test.retryAfter)
			w.WriteHeader(test.status)
		})
		err := b.check(open(t, server, Options{}), 0, 100)
		var e *image.RetryError
		if !errors.As(err, &e) || e.After != test.wait || e.Busy != test.busy || asked.Load() != 1 {
			t.Errorf("%d, Retry-After %q: %+v after %d attempts", test.status, test.retryAfter, e, asked.Load())
		}
	}
	missing := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`)
	})
	if err := b.check(open(t, missing, Options{}), 0, 100); !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), "blob unknown to registry") {
		t.Errorf("404: %v", err)
	}
	forbidden := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	if err := b.check(open(t, forbidden, Options{}), 0, 100); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("403: %v", err)
	}
}

func TestBlob(t *testing.T) {
	b := newBlob(100_000)
	type send = func(w http.ResponseWriter, req *http.Request)
	status := func(code int) send {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	// bytesOf tells the length of what it sends, or does not.
	bytesOf := func(data []byte, told bool) send {
		return func(w http.ResponseWriter, _ *http.Request) {
			if told {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			} else {
				w.(http.Flusher).Flush()
			}
			_, _ = w.Write(data)
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(b.Size))
		_, _ = w.Write(b.bytes[:b.Size/2])
	}
	other := bytes.Repeat([]byte("x"), int(b.Size))
	longer := append(bytes.Clone(b.bytes), 'x')
	for _, test := range []struct {
		name     string
		fails    send
		times    int32 // failures before success
		requests int32
		err      error // nil: it works
	}{
		{"at once", nil, 0, 1, nil},
		{"cut", cut, 5, 6, nil},
		{"cut too often", cut, 6, 6, io.ErrUnexpectedEOF},
		{"429", status(429), 2, 3, nil},
		{"500", status(500), 2, 3, nil},
		{"503", status(503), 5, 6, nil},
		{"wrong bytes once", bytesOf(other, true), 1, 2, nil},
		{"wrong bytes twice", bytesOf(other, true), 2, 2, image.ErrVerification},
		{"longer", bytesOf(longer, true), 1, 1, image.ErrVerification},
		{"shorter", bytesOf(b.bytes[1:], true), 1, 1, image.ErrVerification},
		{"longer, untold", bytesOf(longer, false), 1, 1, nil},
		{"shorter, untold", bytesOf(b.bytes[1:], false), 2, 2, image.ErrVerification},
		{"404", status(404), 1, 1, image.ErrNotFound},
		{"401", status(401), 1, 1, image.ErrUnauthorized},
		{"403", status(403), 1, 1, image.ErrUnauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			var requests atomic.Int32
			server := serve(t, func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Range") != "" || req.Header.Get("Accept-Encoding") != "identity" {
					t.Errorf("asked with %v", req.Header)
				}
				if requests.Add(1) <= test.times {
					test.fails(w, req)
					return
				}
				b.send(w, req)
			})
			var sent events
			data, err := open(t, server, Options{Events: sent.add}).Blob(t.Context(), b.Descriptor)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) || requests.Load() != test.requests {
				t.Errorf("%d requests, %v", requests.Load(), err)
			}
			if err == nil && !bytes.Equal(data, b.bytes) || err != nil && data != nil {
				t.Errorf("got %d bytes, %v", len(data), err)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "get blob team/app@"+b.Digest.String()+" from "+host(server)+": ") {
				t.Errorf("step and host are missing in %q", err)
			}
			if n := len(sent.of(image.EventRetry)); n != int(test.requests)-1 {
				t.Errorf("%d events for %d requests", n, test.requests)
			}
		})
	}
}

func TestBlobFollowsRedirects(t *testing.T) {
	b := newBlob(1000)
	c := newCDN(t, b)
	r := open(t, c.registry, Options{Credentials: given("me", canary)})
	for range 2 { // the second time after the signature has expired
		if data, err := r.Blob(t.Context(), b.Descriptor); err != nil || !bytes.Equal(data, b.bytes) {
			t.Errorf("got %d bytes, %v", len(data), err)
		}
		c.signature.Add(1)
	}
	if c.resolved.Load() != 2 || c.served.Load() != 2 {
		t.Errorf("resolved %d times, served %d", c.resolved.Load(), c.served.Load())
	}
}

func TestBlobThatGoes(t *testing.T) {
	b := newBlob(1000)
	gone := false
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if gone {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		b.send(w, req)
	})
	r := open(t, server, Options{})
	if _, err := r.Blob(t.Context(), b.Descriptor); err != nil {
		t.Fatal(err)
	}
	gone = true
	if _, err := r.Blob(t.Context(), b.Descriptor); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestBlobIsSmall(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	r := open(t, server, Options{})
	for _, bad := range []image.Descriptor{
		{Digest: newBlob(1).Digest, Size: image.MaxConfigSize + 1},
		{Digest: newBlob(1).Digest, Size: -1},
		{Digest: "sha256:../x", Size: 1},
	} {
		if _, err := r.Blob(t.Context(), bad); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// answering is a transport without a network.
type answering func(*http.Request) *http.Response

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) { return a(req), nil }

// silent is a body that gives no byte until it is closed or its request ends.
type silent struct {
	ctx   context.Context
	close context.CancelFunc
}

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (s silent) Close() error {
	s.close()
	return nil
}

func TestBlobWaits(t *testing.T) {
	b := newBlob(1000)
	busy := func(*http.Request) *http.Response {
		return &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"60"}}, Body: http.NoBody}
	}
	stalled := func(req *http.Request) *http.Response {
		var body silent
		body.ctx, body.close = context.WithCancel(req.Context())
		return &http.Response{StatusCode: http.StatusOK, Body: body, ContentLength: b.Size}
	}
	for _, test := range []struct {
		name  string
		fails func(*http.Request) *http.Response
		times int           // failures before success
		limit time.Duration // of the context
		took  time.Duration // or up to a second more, of pauses of our own
		err   error
	}{
		{"Retry-After", busy, 2, time.Hour, 2 * time.Minute, nil},
		{"the context ends in a pause", busy, 2, 70 * time.Second, 70 * time.Second, context.DeadlineExceeded},
		{"a stall", stalled, 1, time.Hour, stallTimeout, nil},
		{"the context ends in a stall", stalled, 1, 10 * time.Second, 10 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				r, err := Open(referenceTo("registry.test"), Options{Transport: answering(func(req *http.Request) *http.Response {
					if requests++; requests <= test.times {
						return test.fails(req)
					}
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(b.bytes)), ContentLength: b.Size}
				})})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.limit)
				defer cancel()
				begin := time.Now()
				data, err := r.Blob(ctx, b.Descriptor)
				if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) || err == nil && !bytes.Equal(data, b.bytes) {
					t.Errorf("got %d bytes, %v", len(data), err)
				}
				if took := time.Since(begin); took < test.took || took > test.took+time.Second {
					t.Errorf("took %v, want %v", took, test.took)
				}
			})
		})
	}
}

func TestSearchSurvivesItsFirstCaller(t *testing.T) {
	b := newBlob(1000)
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	var asked atomic.Int32
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if asked.Add(1) == 1 {
			arrived <- struct{}{}
			select {
			case <-release:
			case <-req.Context().Done():
			}
			return
		}
		b.send(w, req)
	})
	defer close(release)
	r := open(t, server, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := r.OpenRange(ctx, b.Descriptor, 0, 100)
		first <- err
	}()
	<-arrived
	second := make(chan error, 1)
	go func() { second <- b.check(r, 100, 100) }()
	enough := errors.New("enough")
	cancel(enough)
	if err := <-first; !errors.Is(err, enough) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	b := newBlob(100_000)
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(b.send))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	r := open(t, server, Options{})
	for i := range int64(20) {
		if err := b.check(r, i*1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for requests one after the other", n)
	}
	for _, transport := range r.client.transports.made {
		if transport.MaxIdleConnsPerHost < 32 || transport.MaxIdleConns != 0 {
			t.Error("too few idle connections are kept")
		}
	}
}
