package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// Tags gives the repository's tags to fn, page by page, in the registry's
// order (OCI distribution-spec, "Listing Tags"); each page before the next is
// asked for. An error of fn ends the list and is returned. What is no tag by
// the specification is left out, with a warning: nobody could ask for it.
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or a sentinel of this
// package.
func (r *Repository) Tags(ctx context.Context, fn func(page []string) error) error {
	tags := list{
		client: r.client, auth: r.auth, step: "list tags of " + r.name, size: pageSize, limit: maxListBytes,
		check: func(_ *http.Response, body []byte) error {
			var page struct {
				Tags []string `json:"tags"`
			}
			if json.Unmarshal(body, &page) != nil {
				return errors.New("its answer is no list of tags")
			}
			return nil
		},
	}
	warned := false
	return r.through(tags.page).Tags(ctx, "", func(page []string) error {
		tags := make([]string, 0, len(page))
		for _, tag := range page {
			if ref.ValidTag(tag) {
				tags = append(tags, tag)
			} else if !warned {
				warned = true
				r.client.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(
					"%s lists what is no tag for %s: %q", r.client.host, r.name, r.client.public(tag, 60))})
			}
		}
		return fn(tags)
	})
}
