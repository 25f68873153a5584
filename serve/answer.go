package serve

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// answer counts what is sent, and gives up clients that do not take it.
type answer struct {
	http.ResponseWriter
	controller *http.ResponseController
	stall      time.Duration
	status     int
	sent       int64
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. The connection ends where the client
// needs too long to take b.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.patient()
	n, err := a.ResponseWriter.Write(b)
	a.sent += int64(n)
	return n, err
}

// patient gives the client some time to take what comes next.
func (a *answer) patient() {
	_ = a.controller.SetWriteDeadline(time.Now().Add(a.stall)) // what has no deadlines has no connection
}

// impatient gives it some to send a body, of which nothing is read.
func (a *answer) impatient() {
	_ = a.controller.SetReadDeadline(time.Now().Add(headerTime)) // likewise
}

// refusal is the body of every error (OCI distribution-spec, "Error Codes").
type refusal struct {
	Errors []refused `json:"errors"`
}

type refused struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (a *answer) refuse(status int, code, message string) {
	a.json(status, refusal{[]refused{{code, message}}})
}

func (a *answer) json(status int, v any) { a.jsonAs(status, "application/json", v) }

func (a *answer) jsonAs(status int, mediaType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types that always encode come here
	}
	a.Header().Set("Content-Type", mediaType)
	a.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.WriteHeader(status)
	_, _ = a.Write(body) // the client has gone: nobody is left to tell
}
