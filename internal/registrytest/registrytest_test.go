package registrytest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

// client returns a client of its own connections that follows no redirects.
func client(t *testing.T, s *registrytest.Server) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: s.CertPool()},
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type answer struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

func get(t *testing.T, c *http.Client, target string, header ...string) answer {
	t.Helper()
	return do(t, c, "GET", target, header...)
}

func do(t *testing.T, c *http.Client, method, target string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	return answer{resp, body, err}
}

func post(t *testing.T, c *http.Client, target string, form url.Values) answer {
	t.Helper()
	resp, err := c.PostForm(target, form)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	return answer{resp, body, err}
}

func wantStatus(t *testing.T, a answer, status int) {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s: status %d, want %d; body %q", a.Request.URL, a.StatusCode, status, a.body)
	}
}

func TestHealthy(t *testing.T) {
	for _, o := range []registrytest.Options{{}, {TLS: true}, {TLS: true, HTTP2: true}} {
		t.Run(fmt.Sprintf("TLS=%v HTTP2=%v", o.TLS, o.HTTP2), func(t *testing.T) {
			s := registrytest.Start(t, o)
			p := s.Push("a/b", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 4096)}})
			c := client(t, s)
			m := get(t, c, s.URL()+"/v2/a/b/manifests/v1")
			wantStatus(t, m, 200)
			if string(m.body) != string(p.ManifestBytes) || m.Header.Get("Docker-Content-Digest") != p.Manifest.Digest.String() {
				t.Errorf("manifest: %q %v", m.body, m.Header)
			}
			proto := "HTTP/1.1"
			if o.HTTP2 {
				proto = "HTTP/2.0"
			}
			if m.Proto != proto {
				t.Errorf("proto is %s", m.Proto)
			}
			b := get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Layers[0].Digest.String(), "Range", "bytes=10-19")
			wantStatus(t, b, 206)
			if string(b.body) != string(p.LayerBytes(0)[10:20]) || b.Header.Get("Accept-Ranges") != "" {
				t.Errorf("range: %q %v", b.body, b.Header)
			}
			requests := s.Requests()
			if len(requests) != 2 {
				t.Fatalf("%d requests", len(requests))
			}
			want := registrytest.Request{
				Listener: registrytest.Registry, Conn: requests[0].Conn, Proto: proto, Method: "GET",
				Host: s.Host(), Path: "/v2/a/b/blobs/" + p.Layers[0].Digest.String(), Range: "bytes=10-19",
				Status: 206, Bytes: 10,
			}
			if requests[1] != want {
				t.Errorf("recorded %+v, want %+v", requests[1], want)
			}
			if s.BlobBytes() != 10 || s.BlobBytesOf(p.Layers[0].Digest) != 10 || s.BlobBytesOf(p.Config.Digest) != 0 {
				t.Errorf("blob bytes %d", s.BlobBytes())
			}
			if st := s.Stats(); st.Accepted != 1 || st.MaxOpen != 1 || st.MaxBodies != 1 || st.Requests != 2 {
				t.Errorf("%+v", st)
			}
			s.ResetRecords()
			if st := s.Stats(); st.Requests != 0 || st.BlobBytes != 0 || st.Open != 1 || len(s.Requests()) != 0 {
				t.Errorf("after reset: %+v", st)
			}
		})
	}
}

func TestUntrustedCA(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TLS: true})
	if _, err := new(http.Client).Get(s.URL()); err == nil {
		t.Error("a client without the CA's certificate connects")
	}
	if !strings.HasPrefix(string(s.CAPEM()), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("CAPEM %q", s.CAPEM())
	}
}

func TestRanges(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	d := s.AddBlob([]byte("0123456789"))
	c := client(t, s)
	for _, tt := range []struct {
		mode               registrytest.RangeMode
		ask                string
		status             int
		body, contentRange string
	}{
		{registrytest.RangesOK, "bytes=2-4", 206, "234", "bytes 2-4/10"},
		{registrytest.RangesIgnored, "bytes=2-4", 200, "0123456789", ""},
		{registrytest.RangesBadRequest, "bytes=2-4", 400, "", ""},
		{registrytest.RangesUnsatisfiable, "bytes=2-4", 416, "", "bytes */10"},
		{registrytest.RangesStrict, "bytes=2-9", 206, "23456789", "bytes 2-9/10"},
		{registrytest.RangesStrict, "bytes=2-10", 416, "", "bytes */10"},
		{registrytest.RangesStrict, "bytes=2-", 416, "", "bytes */10"},
		{registrytest.RangesWrong, "bytes=2-4", 206, "234", "bytes 3-5/10"},
		{registrytest.RangesShifted, "bytes=2-4", 206, "34", "bytes 3-4/10"},
		{registrytest.RangesUnlabelled, "bytes=2-4", 206, "234", ""},
		{registrytest.RangesBadRequest, "", 200, "0123456789", ""},
	} {
		s.Configure(func(o *registrytest.Options) { o.Ranges = tt.mode })
		a := get(t, c, s.URL()+"/v2/x/blobs/"+d.Digest.String(), "Range", tt.ask)
		if a.StatusCode != tt.status || a.Header.Get("Content-Range") != tt.contentRange || tt.status < 400 && string(a.body) != tt.body {
			t.Errorf("%d %q: %d %q %q", tt.mode, tt.ask, a.StatusCode, a.Header.Get("Content-Range"), a.body)
		}
	}
}

func TestCut(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Cut: &registrytest.Cut{After: 100_000, Times: 2}})
	data := registrytest.RandomBytes(1, 300_000)
	d := s.AddBlob(data)
	small := s.AddBlob(data[:100_000])
	c := client(t, s)
	target := s.URL() + "/v2/x/blobs/"
	for i, want := range []struct {
		path string
		n    int
	}{{small.Digest.String(), 100_000}, {d.Digest.String(), 100_000}, {d.Digest.String(), 100_000}, {d.Digest.String(), 300_000}} {
		a := get(t, c, target+want.path)
		if string(a.body) != string(data[:want.n]) {
			t.Errorf("%d: %d bytes, want %d", i, len(a.body), want.n)
		}
		if cut := i == 1 || i == 2; cut != errors.Is(a.err, io.ErrUnexpectedEOF) {
			t.Errorf("%d: %v", i, a.err)
		}
	}
	if st := s.Stats(); st.Cuts != 2 || st.BlobBytes != 600_000 {
		t.Errorf("%+v", st)
	}
	s.Configure(func(o *registrytest.Options) { o.Latency = time.Microsecond })
	if a := get(t, c, target+d.Digest.String()); a.err != nil {
		t.Errorf("an unrelated change arms the fault again: %v", a.err)
	}
	s.Configure(func(o *registrytest.Options) { o.Cut = &registrytest.Cut{} })
	if a := get(t, c, target+d.Digest.String()); len(a.body) != 0 || a.err == nil {
		t.Errorf("cut at 0: %d bytes, %v", len(a.body), a.err)
	}
}

func TestCutPerConnection(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Cut: &registrytest.Cut{After: 1500, PerConnection: true}})
	d := s.AddBlob(registrytest.RandomBytes(1, 1000))
	c := client(t, s)
	var got []int
	for range 4 {
		got = append(got, len(get(t, c, s.URL()+"/v2/x/blobs/"+d.Digest.String()).body))
	}
	if fmt.Sprint(got) != "[1000 500 1000 500]" {
		t.Errorf("bodies of %v bytes", got)
	}
	// A cut at a body's very end leaves the body whole, and closes.
	s.Configure(func(o *registrytest.Options) { o.Cut = &registrytest.Cut{After: 1000, PerConnection: true} })
	s.ResetRecords()
	for range 3 {
		if a := get(t, c, s.URL()+"/v2/x/blobs/"+d.Digest.String()); len(a.body) != 1000 || a.err != nil {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
	}
	if st := s.Stats(); st.Accepted != 3 || st.Cuts != 3 {
		t.Errorf("%+v", st)
	}
}

func TestStall(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	d := s.AddBlob(registrytest.RandomBytes(1, 100_000))
	other := s.AddBlob(registrytest.RandomBytes(2, 100_000))
	s.Configure(func(o *registrytest.Options) {
		o.Stall = &registrytest.Stall{After: 70_000, Times: 1, Match: registrytest.Of(d.Digest)}
	})
	c := client(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL()+"/v2/x/blobs/"+d.Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.ReadFull(resp.Body, make([]byte, 70_000)); err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if err := s.Await(t.Context(), func(st registrytest.Stats) bool { return st.Stalls == 1 }); err != nil {
		t.Fatal(err)
	}
	if a := get(t, c, s.URL()+"/v2/x/blobs/"+other.Digest.String()); a.err != nil || len(a.body) != 100_000 {
		t.Errorf("another blob: %d bytes, %v", len(a.body), a.err)
	}
	open := s.Stats().Open
	cancel()
	if err := s.Await(t.Context(), func(st registrytest.Stats) bool { return st.Open < open }); err != nil {
		t.Fatal(err)
	}
	if a := get(t, c, s.URL()+"/v2/x/blobs/"+d.Digest.String()); a.err != nil || len(a.body) != 100_000 {
		t.Errorf("the second time: %d bytes, %v", len(a.body), a.err)
	}
}

func TestCloseEndsStalledBodies(t *testing.T) {
	s, err := registrytest.New(registrytest.Options{Stall: &registrytest.Stall{After: 1}})
	if err != nil {
		t.Fatal(err)
	}
	d := s.AddBlob([]byte("0123456789"))
	resp, err := client(t, s).Get(s.URL() + "/v2/x/blobs/" + d.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	go func() { _ = s.Close() }()
	if body, err := io.ReadAll(resp.Body); string(body) != "0" || err == nil {
		t.Errorf("%q, %v", body, err)
	}
}

func TestAwaitEndsWithContext(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if err := s.Await(ctx, func(registrytest.Stats) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestBusy(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Busy: &registrytest.Busy{
		Times: 1, RetryAfter: 1500 * time.Millisecond, Match: registrytest.Manifests,
	}})
	p := s.Push("a/b", "v1", registrytest.Image{})
	c := client(t, s)
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Config.Digest.String()), 200)
	a := get(t, c, s.URL()+"/v2/a/b/manifests/v1")
	wantStatus(t, a, 429)
	if a.Header.Get("Retry-After") != "2" || !strings.Contains(string(a.body), "TOOMANYREQUESTS") {
		t.Errorf("%v %q", a.Header, a.body)
	}
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/manifests/v1"), 200)

	s.Configure(func(o *registrytest.Options) {
		o.Busy = &registrytest.Busy{Status: 503, RetryAfter: time.Hour, Date: true}
	})
	before := time.Now().Add(time.Hour).Truncate(time.Second)
	a = get(t, c, s.URL()+"/v2/a/b/blobs/"+p.Config.Digest.String())
	wantStatus(t, a, 503)
	if when, err := http.ParseTime(a.Header.Get("Retry-After")); err != nil || when.Before(before) {
		t.Errorf("Retry-After %q: %v", a.Header.Get("Retry-After"), err)
	}
}

func TestAnswersAndIntercept(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{
		Auth: &registrytest.Auth{},
		Answers: []registrytest.Answer{
			{Match: registrytest.Tags, Times: 1, Status: 418, Header: http.Header{"x-a": {"b"}}, Body: "\x1b[31m"},
			{Match: registrytest.Tags},
		},
		Intercept: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/mine" {
				return false
			}
			w.WriteHeader(299)
			return true
		},
	})
	c := client(t, s)
	a := get(t, c, s.URL()+"/v2/a/b/tags/list")
	wantStatus(t, a, 418)
	if string(a.body) != "\x1b[31m" || a.Header.Get("X-A") != "b" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/tags/list"), 500)
	wantStatus(t, get(t, c, s.URL()+"/mine"), 299)
	wantStatus(t, get(t, c, s.URL()+"/v2/"), 401)
}

func TestLatency(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Latency: 50 * time.Millisecond})
	c := client(t, s)
	start := time.Now()
	wantStatus(t, get(t, c, s.URL()+"/v2/"), 200)
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

// A connection that is held to a rate can be slower on a busy machine, never
// faster (but for what the kernel lets through at once).
func TestRate(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, err := registrytest.New(registrytest.Options{Rate: 1}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("New: %v", err)
		}
		return
	}
	s := registrytest.Start(t, registrytest.Options{Rate: 4 << 20, SendBuffer: 64 << 10, Redirect: &registrytest.Redirect{}})
	d := s.AddBlob(registrytest.RandomBytes(1, 2<<20))
	c := client(t, s)
	location := get(t, c, s.URL()+"/v2/x/blobs/"+d.Digest.String()).Header.Get("Location")
	start := time.Now()
	if a := get(t, c, location); digest.FromBytes(a.body) != d.Digest {
		t.Error("other bytes")
	}
	if took := time.Since(start); took < 250*time.Millisecond {
		t.Errorf("2 MiB at 4 MiB/s took %v", took)
	}
}

// TotalRate holds all connections together, and no less than that.
func TestTotalRate(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TotalRate: 2 << 20})
	d := s.AddBlob(registrytest.RandomBytes(1, 256<<10))
	begun := time.Now()
	bodies := make(chan int)
	for range 4 {
		c := client(t, s)
		go func() {
			resp, err := c.Get(s.URL() + "/v2/x/blobs/" + d.Digest.String())
			if err != nil {
				bodies <- 0
				return
			}
			defer resp.Body.Close()
			n, _ := io.Copy(io.Discard, resp.Body) // what came before an error tells
			bodies <- int(n)
		}()
	}
	for range 4 {
		if n := <-bodies; n != 256<<10 {
			t.Errorf("a body has %d bytes", n)
		}
	}
	// A megabyte at two a second, of which the first 64 KiB come at once.
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("took %s, which is faster than the rate", took)
	}
}

func TestTagPages(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TagPage: 2})
	for _, tag := range []string{"c", "a", "b"} {
		s.PushRaw("a/b", tag, "application/x", []byte("{}"))
	}
	c := client(t, s)
	for _, query := range []string{"", "?n=100"} {
		a := get(t, c, s.URL()+"/v2/a/b/tags/list"+query)
		if string(a.body) != `{"name":"a/b","tags":["a","b"]}` || a.Header.Get("Link") != `</v2/a/b/tags/list?last=b&n=2>; rel="next"` {
			t.Errorf("%q: %q %v", query, a.body, a.Header)
		}
	}
}
