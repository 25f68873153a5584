package memregistry

import (
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
)

// tagList is the answer of the list of tags (distribution spec, end-8).
type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// catalog is the answer of the list of repositories.
type catalog struct {
	Repositories []string `json:"repositories"`
}

func (g *Registry) serveTags(w http.ResponseWriter, r *http.Request, name string) {
	tags, ok := g.tags(name)
	if !ok {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	if page, ok := pageOf(w, r, tags); ok {
		writeJSON(w, http.StatusOK, tagList{Name: name, Tags: page})
	}
}

func (g *Registry) serveCatalog(w http.ResponseWriter, r *http.Request) {
	if page, ok := pageOf(w, r, g.names()); ok {
		writeJSON(w, http.StatusOK, catalog{page})
	}
}

// pageOf are the names after `last`, at most n of them, with a Link to the next
// page where more are left. names are sorted. Where ok is false it has answered.
func pageOf(w http.ResponseWriter, r *http.Request, names []string) (page []string, ok bool) {
	if last := r.URL.Query().Get("last"); last != "" {
		names = names[sort.Search(len(names), func(i int) bool { return names[i] > last }):]
	}
	n, ok := pageSize(w, r, len(names))
	if !ok {
		return nil, false
	}
	if n > 0 && n < len(names) {
		linkNext(w, r, n, names[n-1])
	}
	return append([]string{}, names[:n]...), true
}

// pageSize is how many of so many are asked for. Where ok is false it has
// answered.
func pageSize(w http.ResponseWriter, r *http.Request, all int) (n int, ok bool) {
	query := r.URL.Query()
	if !query.Has("n") {
		return all, true
	}
	n, err := strconv.Atoi(query.Get("n"))
	if err != nil || n < 0 {
		writeError(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "invalid number of results requested")
		return 0, false
	}
	return min(n, all), true
}

// linkNext tells where the next page of n is.
func linkNext(w http.ResponseWriter, r *http.Request, n int, last string) {
	next := url.Values{"n": {strconv.Itoa(n)}, "last": {last}}
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), next.Encode()))
}
