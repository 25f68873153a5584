package memregistry

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// errorBody is the body of every error (distribution spec, "Error Codes").
type errorBody struct {
	Errors []errorItem `json:"errors"`
}

type errorItem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, errorBody{[]errorItem{{Code: code, Message: message}}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	writeAs(w, status, "application/json", v)
}

func writeAs(w http.ResponseWriter, status int, mediaType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types that always encode come here
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // net/http drops it for HEAD
}
