package serve_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/serve"
)

// slow is a store whose layers wait, once they are asked for, until they are
// let go.
type slow struct {
	*memory
	asked, letGo chan struct{}
}

func newSlow() slow { return slow{newMemory(), make(chan struct{}), make(chan struct{})} }

func (s slow) OpenRange(ctx context.Context, d image.Descriptor, off, n int64) (*image.Range, error) {
	r, err := s.memory.OpenRange(ctx, d, off, n)
	if err == nil {
		r.Body = &waiting{Reader: r.Body, s: s}
	}
	return r, err
}

type waiting struct {
	io.Reader
	s    slow
	once bool
}

func (w *waiting) Read(p []byte) (int, error) {
	if !w.once {
		w.once = true
		w.s.asked <- struct{}{}
		<-w.s.letGo
	}
	return w.Reader.Read(p)
}

func (w *waiting) Close() error { return nil }

// running serves h until stop, whose error is Serve's.
func running(t *testing.T, h *serve.Handler, opts serve.ListenOptions) (host string, stop func(), ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	errs := make(chan error, 1)
	go func() { errs <- h.Serve(ctx, l, opts) }()
	return l.Addr().String(), cancel, errs
}

// What is under way when the server is stopped comes to its end; nothing new is
// taken.
func TestGracefulStop(t *testing.T) {
	s := newSlow()
	p := s.add("docker.io/a/b:1", app(1, 1000))
	h := handler(t, serve.Options{}, serve.From{Store: s, Path: "x"})
	host, stop, ended := running(t, h, serve.ListenOptions{Grace: time.Hour})
	got := make(chan int64, 1)
	go func() {
		resp, err := http.Get("http://" + host + "/v2/a/b/blobs/" + p.Layers[0].Digest.String())
		if err != nil {
			got <- -1
			return
		}
		defer resp.Body.Close()
		n, _ := io.Copy(io.Discard, resp.Body)
		got <- n
	}()
	<-s.asked
	stop()
	// The listener is closed soon; the request still waits.
	for {
		c, err := net.Dial("tcp", host)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended while a request was under way: %v", err)
	default:
	}
	close(s.letGo)
	if n := <-got; n != p.Layers[0].Size {
		t.Errorf("%d bytes came, of %d", n, p.Layers[0].Size)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestGraceIsOver(t *testing.T) {
	s := newSlow()
	p := s.add("docker.io/a/b:1", app(1, 1000))
	h := handler(t, serve.Options{}, serve.From{Store: s, Path: "x"})
	host, stop, ended := running(t, h, serve.ListenOptions{Grace: -1})
	got := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + host + "/v2/a/b/blobs/" + p.Layers[0].Digest.String())
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		got <- err
	}()
	<-s.asked
	stop()
	if err := <-ended; !errors.Is(err, serve.ErrCut) {
		t.Errorf("it ended with %v", err)
	}
	if err := <-got; err == nil {
		t.Error("the client has got the whole")
	}
	close(s.letGo)
}

func TestListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	m := newMemory()
	m.add("docker.io/a/b:1", app(1, 10))
	if err := of(t, m).Serve(t.Context(), l, serve.ListenOptions{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestTLS(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:1", app(1, 300_000))
	// A certificate, and a client that trusts it.
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	client := other.Client()
	host, stop, ended := running(t, of(t, m), serve.ListenOptions{TLS: &tls.Config{Certificates: other.TLS.Certificates}})
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		req, _ := http.NewRequest(method, "https://"+host+"/v2/a/b/blobs/"+p.Layers[0].Digest.String(), nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength != p.Layers[0].Size || method == http.MethodGet && n != resp.ContentLength {
			t.Errorf("%s: %d, %d bytes, %v", method, resp.StatusCode, n, err)
		}
	}
	client.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// pipes is a listener in memory, for a test's own clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.closed); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// A client that takes nothing, or sends a request slowly, or its body, is given
// up after a while; one that is slow but alive is not.
func TestClientsThatStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		p := m.add("docker.io/a/b:1", app(1, 200_000))
		h := handler(t, serve.Options{Stall: time.Minute}, serve.From{Store: m, Path: "x"})
		l := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Serve(ctx, l, serve.ListenOptions{}) }()

		for name, tt := range map[string]struct {
			sends string
			after time.Duration
		}{
			"takes nothing":    {"GET /v2/a/b/blobs/" + p.Layers[0].Digest.String() + " HTTP/1.1\r\nHost: x\r\n\r\n", time.Minute},
			"sends half":       {"GET /v2/ HTTP/1.1\r\nHost:", 20 * time.Second},
			"sends no body":    {"POST /v2/a/b/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 20 * time.Second},
			"sends nothing":    {"", 20 * time.Second},
			"keeps connection": {"HEAD /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", 2 * time.Minute},
		} {
			begun := time.Now()
			c := l.dial()
			_, _ = io.WriteString(c, tt.sends)
			if name != "takes nothing" {
				_, _ = io.Copy(io.Discard, c)
			} else {
				time.Sleep(tt.after + time.Second) // of the test's clock
				if n, _ := io.Copy(io.Discard, c); n > 64<<10 {
					t.Errorf("%s: %d bytes came", name, n)
				}
			}
			if took := time.Since(begun); took < tt.after || took > tt.after+10*time.Second {
				t.Errorf("%s: given up after %v, want %v", name, took, tt.after)
			}
			_ = c.Close()
		}

		c := l.dial()
		from := bufio.NewReader(&gentle{c})
		for range 2 { // the second after the first one's time
			_, _ = fmt.Fprintf(c, "GET /v2/a/b/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", p.Layers[0].Digest)
			resp, err := http.ReadResponse(from, nil)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != p.Layers[0].Size {
				t.Errorf("the slow client got %d bytes of %d: %v", n, p.Layers[0].Size, err)
			}
			time.Sleep(90 * time.Second) // of the test's clock
		}
		_ = c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}

// gentle takes some bytes every ten seconds.
type gentle struct{ net.Conn }

func (g *gentle) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Second) // of the test's clock
	return g.Conn.Read(p[:min(len(p), 8192)])
}

// Each request is told, as it ended.
func TestAccess(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:1", app(1, 1000))
	var all []serve.Access
	h := handler(t, serve.Options{Access: func(a serve.Access) { all = append(all, a) }}, serve.From{Store: m, Path: "x"})
	path := "/v2/a/b/blobs/" + p.Layers[0].Digest.String()
	get(h, path, "User-Agent", "docker/1")
	get(h, path+"?x=1", "Range", "bytes=1-2")
	do(h, http.MethodHead, path)
	get(h, "/v2/x/tags/list")
	want := []serve.Access{
		{Method: "GET", URI: path, Agent: "docker/1", Status: 200, Bytes: p.Layers[0].Size},
		{Method: "GET", URI: path + "?x=1", Status: 206, Bytes: 2},
		{Method: "HEAD", URI: path, Status: 200},
		{Method: "GET", URI: "/v2/x/tags/list", Status: 404, Bytes: 81},
	}
	if len(all) != len(want) {
		t.Fatalf("%d requests are told", len(all))
	}
	for i, a := range all {
		if a.Remote == "" || a.Took < 0 {
			t.Errorf("%+v", a)
		}
		a.Remote, a.Took = "", 0
		if a != want[i] {
			t.Errorf("%+v, want %+v", a, want[i])
		}
	}
}
