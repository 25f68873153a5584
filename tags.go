package davit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

// Tags gives the tags of a repository to fn, page by page, in its registry's
// order; whatever tag or digest the name has does not count. Of an image on
// disk they are those that name what is there, each once, without those of
// referrers (image.WithoutReferrers). An error of fn ends the list and is
// returned; no further page is asked for.
//
// Errors wrap image.ErrNotFound or image.ErrUnauthorized where one of them is
// the cause.
func Tags(ctx context.Context, repository string, opts LookOptions, fn func(page []string) error) error {
	at, err := ParseLocation(repository)
	if err != nil {
		return err
	}
	if at.Path != "" {
		return storedTags(ctx, at.Path, opts.Events, fn)
	}
	opts = opts.withDefaults()
	sources := newSources(opts.Registry, opts.Events)
	defer sources.close()
	source, err := sources.open(at.Reference)
	if err != nil {
		return err
	}
	lister, ok := source.(image.TagLister)
	if !ok {
		return fmt.Errorf("list tags of %s: its source has no list", at.Reference)
	}
	number := 0
	return lister.Tags(ctx, func(page []string) error {
		number++
		opts.Events.Send(image.Event{Kind: image.EventStep, Text: fmt.Sprintf("page %d of the list: %d tags", number, len(page))})
		return fn(page)
	})
}

// Catalog gives the repositories of a registry to fn, page by page, in its
// order, as registry.Host.Catalog does. The registry is named as a host or as
// a URL; what follows the host does not count. An error of fn ends the list and
// is returned; no further page is asked for.
//
// Errors wrap registry.ErrNoCatalog where the registry lists none, or
// image.ErrUnauthorized.
func Catalog(ctx context.Context, host string, opts LookOptions, fn func(page []string) error) error {
	at, err := parseHost(host)
	if err != nil {
		return err
	}
	session := registry.NewSession(opts.withDefaults().Registry)
	defer func() { _ = session.Close() }()
	h, err := session.OpenHost(at)
	if err != nil {
		return err
	}
	return h.Catalog(ctx, fn)
}

// parseHost reads the name of a registry, and returns a reference to some
// repository there.
func parseHost(host string) (ref.Reference, error) {
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok {
		scheme, rest = "https", host
	}
	name, _, _ := strings.Cut(rest, "/")
	r, err := ref.Parse(scheme + "://" + name + "/x")
	if !ok {
		r.Scheme = "" // nobody has said it
	}
	return r, err
}

// StoredNames are what chooses each of the images in an archive or layout, in
// its order, as Location.Image: the tag, where that tells them apart, else the
// full name. What has no name, and referrers (image.WithoutReferrers), are left
// out.
func StoredNames(ctx context.Context, path string) ([]string, error) {
	store, err := openStore(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	images := image.WithoutReferrers(store.Images())
	named := map[string]digest.Digest{} // empty where there are several
	for _, s := range images {
		if d, met := named[s.Tag()]; met && d != s.Digest {
			named[s.Tag()] = ""
		} else {
			named[s.Tag()] = s.Digest
		}
	}
	var names []string
	for _, s := range images {
		name := s.Tag()
		if name == "" || named[name] == "" {
			name = s.Name
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

func storedTags(ctx context.Context, path string, events image.EventFunc, fn func(page []string) error) error {
	store, err := openStore(ctx, path, events)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	var tags []string
	for _, s := range image.WithoutReferrers(store.Images()) {
		if tag := s.Tag(); tag != "" && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return nil
	}
	return fn(tags)
}
