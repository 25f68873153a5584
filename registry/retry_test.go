package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/davit-cli/davit/image"
)

func TestRetries(t *testing.T) {
	cut := func(w http.ResponseWriter) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	short := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, manifest)
	}
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	for _, test := range []struct {
		name          string
		fails         func(http.ResponseWriter)
		times         int32 // failures before success
		retries       int
		requests      int32
		works, cutOff bool
	}{
		{name: "429", fails: status(429), times: 3, requests: 4, works: true},
		{name: "500", fails: status(500), times: 5, requests: 6, works: true},
		{name: "503 too often", fails: status(503), times: 6, requests: 6},
		{name: "503, two retries", fails: status(503), times: 6, retries: 2, requests: 3},
		{name: "503, no retries", fails: status(503), times: 6, retries: -1, requests: 1},
		{name: "cut before the answer", fails: cut, times: 2, requests: 3, works: true},
		{name: "cut in the body", fails: short, times: 2, requests: 3, works: true},
		{name: "404", fails: status(404), times: 1, requests: 1},
		{name: "403", fails: status(403), times: 1, requests: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var requests atomic.Int32
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if requests.Add(1) <= test.times {
					test.fails(w)
					return
				}
				sendManifest(w)
			})
			var sent events
			_, err := open(t, server, Options{Retries: test.retries, Events: sent.add}).Manifest(t.Context(), "v1")
			if (err == nil) != test.works || requests.Load() != test.requests {
				t.Errorf("%d requests, %v", requests.Load(), err)
			}
			if n := len(sent.of(image.EventRetry)); n != int(test.requests)-1 {
				t.Errorf("%d events for %d requests", n, test.requests)
			}
		})
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	var requests atomic.Int32
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	ctx, cancel := context.WithCancel(t.Context())
	var waits []time.Duration
	_, err := open(t, server, Options{Events: func(e image.Event) {
		if e.Kind == image.EventRetry {
			waits = append(waits, e.Wait)
			cancel() // rather than wait for it
		}
	}}).Manifest(ctx, "v1")
	if err == nil || len(waits) != 1 || waits[0] < 2*time.Minute || requests.Load() != 1 {
		t.Errorf("waits %v, %d requests, %v", waits, requests.Load(), err)
	}
}

func TestBackoffGrows(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	var sent events
	r := open(t, server, Options{Events: sent.add, Retries: 4})
	if _, err := r.Manifest(t.Context(), "v1"); err == nil {
		t.Fatal("no error")
	}
	for i, event := range sent.of(image.EventRetry) {
		least := time.Millisecond << i
		if event.Wait < least || event.Wait > least+least/4 {
			t.Errorf("retry %d after %v", i, event.Wait)
		}
	}
	r, err := Open(referenceTo(server.Listener.Addr().String()), Options{})
	if err != nil || r.client.backoff != 250*time.Millisecond || r.client.opts.Retries != 5 {
		t.Errorf("the first pause is %v, of %d retries, %v", r.client.backoff, r.client.opts.Retries, err)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	const date = "Wed, 21 Oct 2015 07:28:00 GMT"
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "3": 3 * time.Second, " 3 ": 3 * time.Second, "-3": 0, "x": 0, "NaN": 0,
		"301": MaxRetryAfter, "99999999999999999999999": MaxRetryAfter, strconv.Itoa(1 << 62): MaxRetryAfter,
		"Wed, 21 Oct 2015 07:28:30 GMT": 30 * time.Second,
		"Wed, 21 Oct 2015 07:27:30 GMT": 0,
		"Wed, 21 Oct 2095 07:27:30 GMT": MaxRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	soon := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	if got := retryAfter(http.Header{"Retry-After": {soon}}); got != MaxRetryAfter {
		t.Errorf("without a Date: %v", got)
	}
}

func TestFirstContactFailsAtOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	var sent events
	r := openBare(t, address, Options{Events: sent.add})
	_, err = r.Manifest(t.Context(), "v1")
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "from "+address+": connection refused") {
		t.Errorf("got %v", err)
	}
	if n := len(sent.of(image.EventRetry)); n != 0 {
		t.Errorf("%d retries", n)
	}

	// One that was there before may come back.
	r.client.contacted.Store(address, true)
	if _, err = r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
	if n := len(sent.of(image.EventRetry)); n != 5 {
		t.Errorf("%d retries of a host that was there", n)
	}
}

func TestCancelledIsCancelled(t *testing.T) {
	arrived := make(chan struct{}, 1)
	server := serve(t, func(_ http.ResponseWriter, req *http.Request) {
		arrived <- struct{}{}
		<-req.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	var sent events
	_, err := open(t, server, Options{Events: sent.add}).Manifest(ctx, "v1")
	if !errors.Is(err, context.Canceled) || len(sent.of(image.EventRetry)) != 0 {
		t.Errorf("got %v", err)
	}
}
