package registry

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"
)

// watch notes the round trips that are made with its context, in order. A
// diagnosis makes the requests of a pull, by the same code, and reads here what
// became of them.
type watch struct {
	mu    sync.Mutex
	trips []*trip
}

type watchKey struct{}

// over is ctx with the watch in it.
func (w *watch) over(ctx context.Context) context.Context {
	return context.WithValue(ctx, watchKey{}, w)
}

// take returns the trips that have ended since it was last called.
func (w *watch) take() []*trip {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.trips
	w.trips = nil
	return taken
}

// trip is one round trip that was watched. It changes no more.
type trip struct {
	url               *url.URL // may be signed, so not for texts
	method            string
	authorization     string // a secret
	started, answered time.Time
	status            int // 0 where no answer came
	header            http.Header
	state             *tls.ConnectionState // of the connection that answered; nil without TLS
	err               error                // the transport's

	target    string // host:port that was to be connected to: the URL's or a proxy's
	lookups   []lookup
	dials     []dial
	handshake *handshake // the last one; nil for none
}

// lookup is a name that was resolved.
type lookup struct {
	host      string
	addresses []string
	took      time.Duration
	err       error
}

// dial is an attempt to connect.
type dial struct {
	address string // IP address and port
	took    time.Duration
	err     error
}

type handshake struct {
	took time.Duration
	done bool
	err  error
}

// connected tells whether an attempt to connect succeeded.
func (t *trip) connected() bool {
	for _, d := range t.dials {
		if d.err == nil {
			return true
		}
	}
	return false
}

// dialed tells whether the trip made, or tried to make, a connection of its own.
func (t *trip) dialed() bool { return len(t.lookups) > 0 || len(t.dials) > 0 }

// roundTrip is transport's, noted where the request's context has a watch.
func roundTrip(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	w, ok := req.Context().Value(watchKey{}).(*watch)
	if !ok {
		return transport.RoundTrip(req)
	}
	n := &notes{trip: trip{
		url: req.URL, method: req.Method, authorization: req.Header.Get("Authorization"), started: time.Now(),
	}}
	resp, err := transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), n.trace())))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trips = append(w.trips, n.end(resp, err))
	return resp, err
}

// notes are a trip while it is under way. A transport may go on with a
// connection that nobody waits for any more: what it tells then is left out.
type notes struct {
	mu    sync.Mutex
	ended bool
	trip  trip
}

// note calls fn unless the trip has ended.
func (n *notes) note(fn func(t *trip, now time.Time)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ended {
		fn(&n.trip, time.Now())
	}
}

func (n *notes) end(resp *http.Response, err error) *trip {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	t := n.trip
	t.answered, t.err = time.Now(), err
	if resp != nil {
		t.status, t.header, t.state = resp.StatusCode, resp.Header, resp.TLS
	}
	return &t
}

func (n *notes) trace() *httptrace.ClientTrace {
	var (
		host             string // being looked up: one a trip
		looking, shaking time.Time
		dialing          = map[string]time.Time{} // by address
	)
	return &httptrace.ClientTrace{
		GetConn: func(target string) {
			n.note(func(t *trip, _ time.Time) { t.target = target })
		},
		DNSStart: func(info httptrace.DNSStartInfo) {
			n.note(func(_ *trip, now time.Time) { host, looking = info.Host, now })
		},
		DNSDone: func(info httptrace.DNSDoneInfo) {
			n.note(func(t *trip, now time.Time) {
				found := lookup{host: host, took: now.Sub(looking), err: info.Err}
				for _, address := range info.Addrs {
					found.addresses = append(found.addresses, address.String())
				}
				t.lookups = append(t.lookups, found)
			})
		},
		ConnectStart: func(_, address string) {
			n.note(func(_ *trip, now time.Time) { dialing[address] = now })
		},
		ConnectDone: func(_, address string, err error) {
			n.note(func(t *trip, now time.Time) {
				t.dials = append(t.dials, dial{address: address, took: now.Sub(dialing[address]), err: err})
			})
		},
		TLSHandshakeStart: func() {
			n.note(func(t *trip, now time.Time) {
				shaking = now
				t.handshake = new(handshake)
			})
		},
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			n.note(func(t *trip, now time.Time) {
				t.handshake = &handshake{took: now.Sub(shaking), done: true, err: err}
			})
		},
	}
}
