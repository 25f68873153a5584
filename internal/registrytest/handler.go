package registrytest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// serve answers every request, on all listeners.
func (s *Server) serve(rw http.ResponseWriter, r *http.Request) {
	w := &response{
		ResponseWriter: rw,
		records:        &s.records,
		record:         s.records.begin(r),
		conn:           connOf(r),
		ctx:            r.Context(),
		total:          s.total,
	}
	defer w.finish()
	o := s.snapshot()
	if !s.sleep(r, o.Latency) {
		panic(http.ErrAbortHandler)
	}
	if o.Intercept != nil && o.Intercept(w, r) {
		return
	}
	if s.answer(w, r, o) {
		return
	}
	l := listenerOf(r)
	if l == Realm || l == Registry && r.URL.Path == tokenPath && o.Auth.bearer() {
		s.serveToken(w, r, o)
		return
	}
	if l == CDN && UploadRequests(r) {
		s.serveUploadOnCDN(w, r, o)
		return
	}
	if l == CDN {
		if !s.busy(w, r, o) {
			s.serveCDN(w, r, o)
		}
		return
	}
	if !s.authorized(w, r, o) || s.busy(w, r, o) {
		return
	}
	switch {
	case UploadRequests(r):
		s.serveUpload(w, r, o)
	case Heads(r) && o.NoHead:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "no HEAD here")
	case Referrers(r) && o.NoReferrers, Catalog(r) && o.NoCatalog:
		http.NotFound(w, r)
	case Manifests(r):
		s.serveManifest(w, r, o)
	case Blobs(r) && o.Redirect != nil && (r.Method == http.MethodGet || o.Redirect.Heads):
		s.redirect(w, r, o)
	case Blobs(r):
		s.serveBlob(w, r, o)
	case Tags(r):
		s.serveList(w, r, o.TagPage, o.MaxPageSize)
	case Catalog(r):
		s.serveList(w, r, o.CatalogPage, o.MaxPageSize)
	case Referrers(r):
		s.serveList(w, r, o.ReferrerPage, 0)
	default:
		s.Content.ServeHTTP(w, r)
	}
}

// sleep waits for d; false where the client went or the server closes.
func (s *Server) sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}

// answer gives the first fixed answer that matches.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, o Options) bool {
	for i := range o.Answers {
		a := &o.Answers[i]
		if a.Match != nil && !a.Match(r) || !s.take(a.Times, &a.used) {
			continue
		}
		for k, v := range a.Header {
			w.Header()[http.CanonicalHeaderKey(k)] = v
		}
		if w.Header().Get("Content-Type") == "" {
			w.Header().Set("Content-Type", "application/json")
		}
		status := a.Status
		if status == 0 {
			status = http.StatusInternalServerError
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, a.Body)
		}
		return true
	}
	return false
}

// busy refuses the request where Options.Busy says so.
func (s *Server) busy(w http.ResponseWriter, r *http.Request, o Options) bool {
	b := o.Busy
	if b == nil {
		return false
	}
	if b.Match != nil && !b.Match(r) || b.Match == nil && !Blobs(r) && !Manifests(r) {
		return false
	}
	if !s.take(b.Times, &b.used) {
		return false
	}
	if b.RetryAfter > 0 {
		value := strconv.FormatInt(int64((b.RetryAfter+time.Second-1)/time.Second), 10)
		if b.Date {
			value = time.Now().Add(b.RetryAfter + time.Second - 1).UTC().Format(http.TimeFormat)
		}
		w.Header().Set("Retry-After", value)
	}
	status, code := b.Status, "TOOMANYREQUESTS"
	if status == 0 {
		status = http.StatusTooManyRequests
	}
	if status != http.StatusTooManyRequests {
		code = "UNAVAILABLE"
	}
	writeError(w, status, code, "come back later")
	return true
}

// serveList serves a list in pages of at most page entries, 0 for no limit. Who
// asks for more than most is refused; 0 for nobody.
func (s *Server) serveList(w http.ResponseWriter, r *http.Request, page, most int) {
	query := r.URL.Query()
	n, err := strconv.Atoi(query.Get("n"))
	if most > 0 && err == nil && n > most {
		writeError(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "invalid number of results requested")
		return
	}
	if page > 0 && (err != nil || n > page) {
		query.Set("n", strconv.Itoa(page))
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
	}
	s.Content.ServeHTTP(w, r)
}

// ErrorBody returns the JSON body of an error as the distribution specification
// has it ("Error Codes").
func ErrorBody(code, message string) string {
	body, err := json.Marshal(map[string]any{
		"errors": []map[string]string{{"code": code, "message": message}},
	})
	if err != nil {
		panic(err) // strings always encode
	}
	return string(body)
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	body := ErrorBody(code, message)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
