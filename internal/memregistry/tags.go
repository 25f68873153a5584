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

// serveTags answers with the repository's tags after `last`, at most n of them,
// and a Link to the next page where more are left.
func (g *Registry) serveTags(w http.ResponseWriter, r *http.Request, name string) {
	tags, ok := g.tags(name)
	if !ok {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	query := r.URL.Query()
	if last := query.Get("last"); last != "" {
		tags = tags[sort.Search(len(tags), func(i int) bool { return tags[i] > last }):]
	}
	if query.Has("n") {
		n, err := strconv.Atoi(query.Get("n"))
		if err != nil || n < 0 {
			writeError(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "invalid number of results requested")
			return
		}
		if n > 0 && n < len(tags) {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}}
			w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?%s>; rel="next"`, name, next.Encode()))
		}
		tags = tags[:min(n, len(tags))]
	}
	writeJSON(w, http.StatusOK, tagList{Name: name, Tags: tags})
}
