package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// Host is a registry itself, whichever repositories it has. Its methods may be
// called from many goroutines at once; its connections are its session's.
type Host struct {
	client *client
	auth   *authorizer
	name   string // as references name it
}

// OpenHost makes a client for the registry that at names; its repository, tag
// and digest are not looked at. It sends nothing yet. The host is reached as
// Open reaches it.
func (s *Session) OpenHost(at ref.Reference) (*Host, error) {
	if (orasregistry.Reference{Registry: at.Registry}).ValidateRegistry() != nil {
		return nil, fmt.Errorf("open registry %q: not a registry", oneline.Clean(at.Registry, 200))
	}
	c, err := s.client(at.Registry, hosts.Host{}, at.Scheme)
	if err != nil {
		return nil, fmt.Errorf("open registry %s: %w", at.Registry, err)
	}
	return &Host{client: c, auth: &authorizer{client: c, registry: at.Registry}, name: at.Registry}, nil
}

// Catalog gives the names of the registry's repositories to fn, page by page,
// in the registry's order (GET /v2/_catalog of Docker's HTTP API V2, which the
// OCI distribution-spec has not taken over); each page before the next is asked
// for. An error of fn ends the list and is returned. What is no name of a
// repository is left out; an image.EventNote tells how many. Which repositories
// a registry lists is its own affair: those that the credential may read, or
// all.
//
// Errors wrap ErrNoCatalog where the registry has no such list for anybody,
// image.ErrUnauthorized or a sentinel of this package.
func (h *Host) Catalog(ctx context.Context, fn func(page []string) error) error {
	names := list{
		client: h.client, auth: h.auth, step: h.step(), size: pageSize, limit: maxListBytes,
		check: checkCatalog,
	}
	registry := remote.Registry{
		RepositoryOptions: remote.RepositoryOptions{
			Client: doFunc(names.page), Reference: orasregistry.Reference{Registry: h.client.host},
		},
	}
	invalid, example := 0, ""
	var stop error // fn's
	err := registry.Repositories(ctx, "", func(page []string) error {
		valid := make([]string, 0, len(page))
		for _, name := range page {
			if (orasregistry.Reference{Repository: name}).ValidateRepository() == nil {
				valid = append(valid, name)
			} else if invalid++; invalid == 1 {
				example = h.client.public(name, 60)
			}
		}
		stop = fn(valid)
		return stop
	})
	if invalid > 0 {
		h.client.opts.Events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf(
			"%s lists what is no repository's name, %d in all, left out: %q", h.client.host, invalid, example)})
	}
	if stop != nil || err == nil || ctx.Err() != nil || names.begun() {
		return err
	}
	return h.noCatalog(err)
}

func (h *Host) step() string { return "list repositories of " + h.name }

// checkCatalog says whether an answer is a page of the list. The error wraps
// ErrNoCatalog where it is not even JSON: a page for people.
func checkCatalog(resp *http.Response, body []byte) error {
	var page struct {
		Repositories []string `json:"repositories"`
	}
	switch {
	case json.Unmarshal(body, &page) == nil:
		return nil
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		return fmt.Errorf("its answer is a page of HTML: %w", ErrNoCatalog)
	}
	return errors.New("its answer is no list of repositories")
}

// noCatalogAt are registries of many owners, who are told 401 or 403 there
// whatever they show.
var noCatalogAt = map[string]bool{"registry-1.docker.io": true, "ghcr.io": true}

// noCatalog is err, the registry's first answer, with ErrNoCatalog as its cause
// where it means that: then neither another name nor another credential helps.
func (h *Host) noCatalog(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Status == 0 || mayPass(e.Status) {
		return err
	}
	listing := e.Step == h.step() // and not asking a realm for a token
	switch {
	case listing && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed ||
		e.Status == http.StatusGone || e.Status == http.StatusNotImplemented):
	case listing && e.Code == CodeUnsupported:
	case listing && !strings.EqualFold(e.Host, h.client.host): // a redirect led away
	case noCatalogAt[h.client.host] && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
	default:
		return err
	}
	none := *e // the realm's may be shared
	none.causes = []error{ErrNoCatalog}
	return &none
}
