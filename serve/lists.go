package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// tagList is the answer of the list of tags (OCI distribution-spec, "Listing Tags").
type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// catalog is the answer of the list of repositories.
type catalog struct {
	Repositories []string `json:"repositories"`
}

func (h *Handler) serveTags(r *request) {
	if page, ok := pageOf(r, r.repo.sorted); ok {
		r.w.json(http.StatusOK, tagList{r.name, page})
	}
}

// serveCatalog lists each repository by one of its names.
func (h *Handler) serveCatalog(r *request) {
	if page, ok := pageOf(r, h.catalog); ok {
		r.w.json(http.StatusOK, catalog{page})
	}
}

// pageOf are the names after `last`, at most n of them, with a Link to the next
// page where more are left. names are sorted. Where ok is false it has answered.
func pageOf(r *request, names []string) (page []string, ok bool) {
	query := r.URL.Query()
	if last := query.Get("last"); last != "" {
		names = names[sort.Search(len(names), func(i int) bool { return names[i] > last }):]
	}
	n := len(names)
	if query.Has("n") {
		asked, err := strconv.Atoi(query.Get("n"))
		if err != nil || asked < 0 {
			r.w.refuse(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is no number of results")
			return nil, false
		}
		n = min(n, asked)
	}
	if n > 0 && n < len(names) {
		linkNext(r, url.Values{"n": {strconv.Itoa(n)}, "last": {names[n-1]}})
	}
	return append([]string{}, names[:n]...), true
}

// linkNext tells where the next page is.
func linkNext(r *request, next url.Values) {
	if registry := r.URL.Query().Get("ns"); registry != "" {
		next.Set("ns", registry)
	}
	r.w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), next.Encode()))
}

// maxPage is about how many bytes of referrers are sent at once: clients take
// no larger manifests (OCI distribution-spec, "Listing Referrers").
const maxPage = 2 << 20

// serveReferrers answers with what refers to a manifest, whether that is there
// or not.
func (h *Handler) serveReferrers(r *request, subject string) {
	referrers := r.repo.referrers[digest.Digest(subject)]
	query := r.URL.Query()
	next := url.Values{}
	if wanted := query.Get("artifactType"); wanted != "" {
		referrers = slices.DeleteFunc(slices.Clone(referrers), func(d image.Descriptor) bool { return d.ArtifactType != wanted })
		r.w.Header().Set("OCI-Filters-Applied", "artifactType")
		next.Set("artifactType", wanted)
	}
	if last := query.Get("last"); last != "" {
		referrers = referrers[sort.Search(len(referrers), func(i int) bool { return referrers[i].Digest.String() > last }):]
	}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []image.Descriptor{},
	}
	size := 0
	for i, d := range referrers {
		one, err := json.Marshal(d)
		if err != nil {
			panic(err) // a descriptor always encodes
		}
		if size += len(one); size > maxPage && i > 0 {
			next.Set("last", referrers[i-1].Digest.String())
			linkNext(r, next)
			break
		}
		index.Manifests = append(index.Manifests, d)
	}
	r.w.jsonAs(http.StatusOK, ocispec.MediaTypeImageIndex, index)
}
