package cli_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-cli/davit/internal/registrytest"
)

// testRegistry is a registry of a script.
type testRegistry struct {
	*registrytest.Server
	name string
	gone chan struct{} // closed with it: ends requests that hang
}

func (r *testRegistry) close() {
	close(r.gone)
	_ = r.Close()
}

const registryUsage = `usage:
	registry start NAME [tls] [client-certs] [names=HOST,…] [sendbuffer=BYTES] [rate=BYTES] [FAULT…]
	                                     run a registry; $NAME and $REGISTRY are its host
	registry fault NAME [FAULT…]         have these faults and no others
	registry ca NAME FILE                write the CA of its certificate
	registry client NAME CERT KEY        write a client certificate that it takes
	registry await NAME WHAT=N           wait until so much has happened: served=BYTES,
	                                     uploaded=BYTES, stalls=N, cuts=N, requests=N
	registry served NAME [max PERCENT IMAGE [plus BYTES] | none]
	                                     the bytes of blobs served, which may be that much at most
	registry uploaded NAME [max PERCENT IMAGE [plus BYTES] | none]
	                                     the same of those that were uploaded
	registry uploads NAME                print how many uploads are neither complete nor given up
	registry requests NAME               print a line for each: METHOD PATH STATUS AUTH
	registry forget NAME                 forget what was served and asked
faults:
	auth=bearer|basic [user=U] [password=P] [identity=TOKEN] [anonymous] [deny] [no-push] [realm]
	                                     realm: tokens come from another port
	redirect                             blobs come from another port
	cut=BYTES[/TIMES]                    each connection ends after so many bytes of bodies
	stall=BYTES[/TIMES] [of=layer0]      bodies stop after so many bytes
	busy=STATUS[/TIMES] [retry-after=1s] [on=manifests|blobs|uploads|pieces]
	answer=STATUS[/TIMES] [on=manifests|blobs|tags|heads|referrers|catalog|uploads|pieces] [body=FILE] [after=N]
	                                     … but not to the first N requests
	hang                                 requests for manifests get no answer
	ranges=ignored|400|416|strict|wrong|shifted|unlabelled
	manifest-type=TYPE, no-digest-header
	no-referrers, no-catalog, no-head    404 for these lists, 405 to HEADs of manifests and blobs
	tag-page=N, catalog-page=N, referrer-page=N
	                                     lists come in pages of N
	max-page-size=N                      who asks for larger pages of tags or repositories gets 400
	clock=-1h                            the server's clock is wrong
	pulls-left=N                         of 100 in six hours, as Docker Hub tells it
	writable [location=absolute|relative|bare|elsewhere] [no-mount] [no-subject]
	                                     it takes pushes
	writable upload-cut=BYTES[/TIMES]    connections end within bodies, of which it keeps what came
	writable lose=TIMES                  pieces are taken, and the connection ends without an answer
	writable max-body=BYTES, max-piece=BYTES, min-piece=BYTES
	                                     larger bodies get 413, larger pieces 416, smaller ones 400
	writable no-pieces, no-status, forgets, stale-range
	writable revoke=BYTES                tokens end after so many
	writable told=DIGEST                 it tells of another digest than the pushed one
	corrupt=layer0|config|manifest|index:flip|short|long   of the image pushed last`

func registryCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf(registryUsage)
	}
	s := stateOf(ts)
	verb, name, args := args[0], args[1], args[2:]
	if verb == "start" {
		startRegistry(ts, s, name, args)
		return
	}
	r, ok := s.registries[name]
	if !ok {
		ts.Fatalf("no registry %q was started", name)
	}
	switch verb {
	case "fault":
		rest := options(args)
		o := faults(ts, s, r, rest)
		unknown(ts, rest)
		r.Configure(func(now *registrytest.Options) { *now = o })
	case "ca":
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), r.CAPEM(), 0o666))
	case "client":
		cert, key := r.ClientPEM()
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), cert, 0o666))
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), key, 0o600))
	case "await":
		await(ts, r, args)
	case "served":
		served(ts, s, r, args)
	case "uploaded":
		uploaded(ts, s, r, args)
	case "uploads":
		_, _ = fmt.Fprintln(ts.Stdout(), r.Content.OpenUploads())
	case "requests":
		for _, q := range r.Requests() {
			_, _ = fmt.Fprintln(ts.Stdout(), strings.TrimSpace(fmt.Sprintf("%s %s %d %s", q.Method, q.Path, q.Status, q.Auth)))
		}
	case "forget":
		r.ResetRecords()
	default:
		ts.Fatalf(registryUsage)
	}
}

func startRegistry(ts *testscript.TestScript, s *state, name string, args []string) {
	r := &testRegistry{name: name, gone: make(chan struct{})}
	rest := options(args)
	o := faults(ts, s, r, rest)
	_, o.TLS = take(rest, "tls")
	_, o.ClientCerts = take(rest, "client-certs")
	if v, ok := take(rest, "names"); ok {
		o.Names = strings.Split(v, ",")
	}
	if v, ok := take(rest, "sendbuffer"); ok {
		o.SendBuffer = int(size(ts, v))
	}
	if v, ok := take(rest, "rate"); ok {
		o.Rate = int(size(ts, v))
	}
	unknown(ts, rest)
	server, err := registrytest.New(o)
	ts.Check(err)
	r.Server = server
	if old, ok := s.registries[name]; ok {
		old.close()
	}
	s.registries[name] = r
	ts.Setenv(name, r.Host())
	ts.Setenv("REGISTRY", r.Host())
}

// faults takes the words that name faults out of rest.
func faults(ts *testscript.TestScript, s *state, r *testRegistry, rest map[string]string) registrytest.Options {
	var o registrytest.Options
	if v, ok := take(rest, "auth"); ok {
		o.Auth = &registrytest.Auth{Scheme: map[string]registrytest.AuthScheme{
			"bearer": registrytest.Bearer, "basic": registrytest.Basic}[v]}
		o.Auth.User, _ = take(rest, "user")
		o.Auth.Password, _ = take(rest, "password")
		_, o.Auth.Anonymous = take(rest, "anonymous")
		_, o.Auth.OwnRealm = take(rest, "realm")
		o.Auth.IdentityToken, _ = take(rest, "identity")
		if _, deny := take(rest, "deny"); deny {
			o.Auth.Access = func(string, string) bool { return false }
		}
		if _, ok := take(rest, "no-push"); ok {
			o.Auth.Push = func(string, string) bool { return false }
		}
	}
	var on registrytest.Match
	if v, ok := take(rest, "on"); ok {
		on = map[string]registrytest.Match{
			"manifests": registrytest.Manifests, "blobs": registrytest.Blobs, "tags": registrytest.Tags,
			"heads": registrytest.Heads, "referrers": registrytest.Referrers, "catalog": registrytest.Catalog,
			"uploads": registrytest.UploadRequests, "pieces": registrytest.Pieces}[v]
		if on == nil {
			ts.Fatalf("on=%s: want manifests, blobs, tags, heads, referrers, catalog, uploads or pieces", v)
		}
	}
	o.Uploads = uploadFaults(ts, rest)
	if _, ok := take(rest, "redirect"); ok {
		o.Redirect = &registrytest.Redirect{}
	}
	if v, ok := take(rest, "cut"); ok {
		after, times := sizeTimes(ts, v)
		o.Cut = &registrytest.Cut{After: after, Times: times, PerConnection: true}
	}
	if v, ok := take(rest, "stall"); ok {
		after, times := sizeTimes(ts, v)
		o.Stall = &registrytest.Stall{After: after, Times: times}
		if v, ok := take(rest, "of"); ok {
			d, _ := s.last.part(ts, v)
			o.Stall.Match = registrytest.Of(d)
		}
	}
	if v, ok := take(rest, "busy"); ok {
		status, times := sizeTimes(ts, v)
		o.Busy = &registrytest.Busy{Status: int(status), Times: times, Match: on}
		if v, ok := take(rest, "retry-after"); ok {
			after, err := time.ParseDuration(v)
			ts.Check(err)
			o.Busy.RetryAfter = after
		}
	}
	if v, ok := take(rest, "answer"); ok {
		status, times := sizeTimes(ts, v)
		a := registrytest.Answer{Match: on, Status: int(status), Times: times}
		if v, ok := take(rest, "body"); ok {
			a.Body = unescape(ts, ts.ReadFile(v))
		}
		if v, ok := take(rest, "after"); ok {
			a.Match = afterFirst(size(ts, v), a.Match)
		}
		o.Answers = append(o.Answers, a)
	}
	if v, ok := take(rest, "ranges"); ok {
		mode, known := map[string]registrytest.RangeMode{
			"ignored": registrytest.RangesIgnored, "400": registrytest.RangesBadRequest,
			"416": registrytest.RangesUnsatisfiable, "strict": registrytest.RangesStrict,
			"wrong": registrytest.RangesWrong, "shifted": registrytest.RangesShifted,
			"unlabelled": registrytest.RangesUnlabelled}[v]
		if !known {
			ts.Fatalf("ranges=%s is unknown", v)
		}
		o.Ranges = mode
	}
	if _, ok := take(rest, "hang"); ok {
		o.Intercept = func(_ http.ResponseWriter, q *http.Request) bool {
			if !registrytest.Manifests(q) {
				return false
			}
			select {
			case <-q.Context().Done():
			case <-r.gone:
			}
			return true
		}
	}
	if header := headers(ts, rest); len(header) > 0 {
		o.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
			for name, value := range header {
				w.Header().Set(name, value())
			}
			return false
		}
	}
	o.ManifestType, _ = take(rest, "manifest-type")
	_, o.NoDigestHeader = take(rest, "no-digest-header")
	_, o.NoReferrers = take(rest, "no-referrers")
	_, o.NoCatalog = take(rest, "no-catalog")
	_, o.NoHead = take(rest, "no-head")
	for word, page := range map[string]*int{
		"tag-page": &o.TagPage, "catalog-page": &o.CatalogPage, "referrer-page": &o.ReferrerPage, "max-page-size": &o.MaxPageSize,
	} {
		if v, ok := take(rest, word); ok {
			*page = int(size(ts, v))
		}
	}
	if v, ok := take(rest, "corrupt"); ok {
		what, how, _ := strings.Cut(v, ":")
		d, content := s.last.part(ts, what)
		o.Corrupt = map[digest.Digest]*registrytest.Corrupt{d: corruption(ts, how, content)}
	}
	return o
}

// headers are what faults add to each answer.
func headers(ts *testscript.TestScript, rest map[string]string) map[string]func() string {
	header := map[string]func() string{}
	if v, ok := take(rest, "clock"); ok {
		wrong, err := time.ParseDuration(v)
		ts.Check(err)
		header["Date"] = func() string { return time.Now().Add(wrong).UTC().Format(http.TimeFormat) }
	}
	if v, ok := take(rest, "pulls-left"); ok {
		header["Ratelimit-Limit"] = func() string { return "100;w=21600" }
		header["Ratelimit-Remaining"] = func() string { return v + ";w=21600" }
	}
	return header
}

// afterFirst matches what match does, but not the first n of them.
func afterFirst(n int64, match registrytest.Match) registrytest.Match {
	var seen atomic.Int64
	return func(r *http.Request) bool {
		return (match == nil || match(r)) && seen.Add(1) > n
	}
}

// corruption serves other bytes than content: as many, fewer or more.
func corruption(ts *testscript.TestScript, how string, content []byte) *registrytest.Corrupt {
	switch how {
	case "flip":
		return &registrytest.Corrupt{Flip: []int64{int64(len(content)) / 2}}
	case "short":
		return &registrytest.Corrupt{Data: content[:len(content)-1]}
	case "long":
		return &registrytest.Corrupt{Data: append(append([]byte{}, content...), 'x')}
	}
	ts.Fatalf("corrupt: want flip, short or long, got %q", how)
	return nil
}

func await(ts *testscript.TestScript, r *testRegistry, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for what, value := range options(args) {
		n := size(ts, value)
		err := r.Await(ctx, func(stats registrytest.Stats) bool {
			switch what {
			case "served":
				return stats.BlobBytes >= n
			case "uploaded":
				return stats.Uploaded >= n
			case "stalls":
				return int64(stats.Stalls) >= n
			case "cuts":
				return int64(stats.Cuts) >= n
			case "requests":
				return int64(stats.Requests) >= n
			}
			return false
		})
		if err != nil {
			ts.Fatalf("waiting for %s=%s: %v (%+v)", what, value, err, r.Stats())
		}
	}
}

func served(ts *testscript.TestScript, s *state, r *testRegistry, args []string) {
	got := r.BlobBytes()
	_, _ = fmt.Fprintln(ts.Stdout(), got)
	atMost(ts, s, got, "served", args)
}

func size(ts *testscript.TestScript, s string) int64 {
	n, err := units.RAMInBytes(s)
	ts.Check(err)
	return n
}

// sizeTimes reads N/TIMES; no TIMES is 0: every time.
func sizeTimes(ts *testscript.TestScript, s string) (int64, int) {
	n, times, ok := strings.Cut(s, "/")
	if !ok {
		return size(ts, n), 0
	}
	count, err := strconv.Atoi(times)
	ts.Check(err)
	return size(ts, n), count
}

// unescape reads Go's escapes (\x1b), so that scripts can hold control characters.
func unescape(ts *testscript.TestScript, s string) string {
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", `\n`) + `"`)
	ts.Check(err)
	return out
}
