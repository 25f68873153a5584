package davit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/synclist"
)

// Sync copies what a list names that is not at its destination yet, as CopyAll
// does with SkipSame and KeepGoing. opts.Platforms are for entries that name
// none.
//
// Where nothing is new that costs the pages of tags of the repositories from
// which tags are chosen, and for each image of which all platforms are wanted
// one HEAD on each side.
//
// The results are in the list's order, and those of the images that were there
// are among them. Where a repository's tags cannot be listed, or an image cannot
// be copied, the others are; the error is a *CopyError then, in which such a
// repository counts as an image. A list that contradicts itself is a
// *synclist.Error, and nothing is copied.
func Sync(ctx context.Context, list synclist.List, opts CopyOptions) ([]CopyResult, error) {
	if err := checkTargets(list); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	opts.SkipSame, opts.KeepGoing = true, true
	opts.sources = newSources(opts.Source, opts.Events)
	defer opts.sources.close()
	s := &syncing{list: list, sources: opts.sources, events: opts.Events}
	images, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	var items []CopyItem
	for _, img := range images {
		items = append(items, syncItem(img))
	}
	return copyAll(ctx, items, opts, s.failures)
}

// checkTargets refuses what a list cannot go to: images keep their names on the
// disk.
func checkTargets(list synclist.List) error {
	for _, e := range list.Entries {
		to := e.To
		if to.None() {
			to = list.To
		}
		if to.Path == "" {
			continue
		}
		d, err := ParseDestination(to.Path)
		bare := Destination{Path: d.Path, Format: d.Format}
		switch {
		case err != nil:
		case d.Format == Components:
			err = fmt.Errorf("%s: components are one image: want an archive or a layout", to.Path)
		case d != bare:
			err = fmt.Errorf("%s: images keep their names there: write %s", to.Path, bare)
		}
		if err != nil {
			return &synclist.Error{Name: list.Name, Line: e.Line, Err: err}
		}
	}
	return nil
}

// syncItem is an image of a list as one to be copied.
func syncItem(img synclist.Image) CopyItem {
	item := CopyItem{Source: nameInRegistry(img.Source), Destination: img.Path, Platforms: img.Platforms, Referrers: img.Referrers}
	if img.Path == "" {
		item.Destination = nameInRegistry(img.Destination)
	}
	return item
}

// nameInRegistry is a name that is read as a registry's, whatever is on the disk.
func nameInRegistry(r ref.Reference) string {
	if r.Scheme == "" {
		return "docker://" + r.String()
	}
	return r.Scheme + "://" + r.String()
}

// syncing is what a Sync does before it copies.
type syncing struct {
	list     synclist.List
	sources  *sources
	events   image.EventFunc
	failures []Failure // what could not be listed
}

// plan finds the images of all entries. What cannot be listed is among the
// failures.
func (s *syncing) plan(ctx context.Context) ([]synclist.Image, error) {
	entries := s.entries(ctx)
	lists := s.tagLists(ctx, entries)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var images []synclist.Image
	for _, e := range entries {
		var tags []string
		if e.Tags.NeedsTags() {
			list := lists[repositoryOf(e)]
			if list.err != nil {
				continue
			}
			tags = list.tags
		}
		chosen, err := s.list.Images(e, tags)
		if err != nil {
			return nil, err
		}
		if len(chosen) == 0 {
			s.events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s:%d: no tag of %s is chosen", s.list.Name, e.Line, e.Source)})
		}
		images = append(images, chosen...)
	}
	return s.list.Plan(images)
}

// entries are those of the list, with those that stand for a registry replaced
// by its repositories.
func (s *syncing) entries(ctx context.Context) []synclist.Entry {
	var entries []synclist.Entry
	for _, e := range s.list.Entries {
		if !e.NeedsRepositories() {
			entries = append(entries, e)
			continue
		}
		repositories, err := s.catalog(ctx, e.Source)
		if err != nil {
			s.failures = append(s.failures, Failure{e.Source.Registry, err})
			continue
		}
		entries = append(entries, e.Repositories(repositories)...)
	}
	return entries
}

// catalog are the repositories of a registry.
func (s *syncing) catalog(ctx context.Context, at ref.Reference) ([]string, error) {
	host, err := s.sources.session.OpenHost(at)
	if err != nil {
		return nil, err
	}
	var repositories []string
	err = host.Catalog(ctx, func(page []string) error {
		repositories = append(repositories, page...)
		return nil
	})
	return repositories, err
}

// tagList is what a repository holds.
type tagList struct {
	of   ref.Reference
	tags []string
	err  error
}

// repositoryOf is what an entry's tags are listed by.
func repositoryOf(e synclist.Entry) string { return e.Source.Scheme + "//" + e.Source.Name() }

// tagLists are the tags of the repositories from which tags are chosen, each
// listed once.
func (s *syncing) tagLists(ctx context.Context, entries []synclist.Entry) map[string]*tagList {
	for _, e := range entries {
		_, _ = s.sources.open(e.Source) // so that one token serves all of a registry; whoever asks tells the error
	}
	lists := map[string]*tagList{}
	var inOrder []*tagList
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for _, e := range entries {
		if !e.Tags.NeedsTags() || lists[repositoryOf(e)] != nil {
			continue
		}
		list := &tagList{of: e.Source}
		lists[repositoryOf(e)] = list
		inOrder = append(inOrder, list)
		group.Go(func() error {
			list.tags, list.err = s.tags(ctx, list.of)
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	for _, list := range inOrder {
		if list.err != nil {
			s.failures = append(s.failures, Failure{list.of.String(), list.err})
		}
	}
	return lists
}

// tags are those of one repository.
func (s *syncing) tags(ctx context.Context, at ref.Reference) ([]string, error) {
	source, err := s.sources.open(at)
	if err != nil {
		return nil, err
	}
	lister, ok := source.(image.TagLister)
	if !ok {
		return nil, errors.New("list tags of " + at.String() + ": its source has no list")
	}
	var tags []string
	err = lister.Tags(ctx, func(page []string) error {
		tags = append(tags, page...)
		return nil
	})
	return tags, err
}
