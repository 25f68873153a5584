package davit

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
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
// be copied, the others are; the error is a *CopyError then. A list that
// contradicts itself is a *synclist.Error, and nothing is copied.
func Sync(ctx context.Context, list synclist.List, opts CopyOptions) ([]CopyResult, error) {
	opts = opts.withDefaults()
	opts.SkipSame, opts.KeepGoing = true, true
	s := &syncing{list: list, opts: opts, sources: newSources(opts.Source, opts.Events)}
	defer s.sources.close()
	plan, failures, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	var items []CopyItem
	for _, img := range plan {
		items = append(items, syncItem(img))
	}
	results, err := CopyAll(ctx, items, opts)
	return results, joinFailures(failures, len(items), len(results), err)
}

// syncItem is an image of a list as one to be copied.
func syncItem(img synclist.Image) CopyItem {
	item := CopyItem{Source: nameInRegistry(img.Source), Destination: img.Path, Platforms: img.Platforms}
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

// joinFailures adds what could not be listed to what could not be copied.
func joinFailures(failures []Failure, asked, copied int, err error) error {
	if len(failures) == 0 {
		return err
	}
	all := &CopyError{Failures: failures, Asked: asked + len(failures), Copied: copied, KeepGoing: true}
	switch several, ok := err.(*CopyError); {
	case ok:
		all.Failures = append(all.Failures, several.Failures...)
	case err != nil && asked != 1:
		return err
	case err != nil:
		all.Failures = append(all.Failures, Failure{Err: err})
	}
	return all
}

// syncing is one Sync.
type syncing struct {
	list    synclist.List
	opts    CopyOptions
	sources *sources
}

// plan finds the images of all entries.
func (s *syncing) plan(ctx context.Context) ([]synclist.Image, []Failure, error) {
	entries, failures := s.entries(ctx)
	found := make([][]synclist.Image, len(entries))
	errs := make([]error, len(entries))
	lists := s.tagLists(ctx, entries)
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	var images []synclist.Image
	for i, e := range entries {
		list := lists[s.repository(e)]
		if e.Tags.NeedsTags() && list.err != nil {
			failures = append(failures, Failure{e.Source.String(), list.err})
			continue
		}
		if found[i], errs[i] = s.list.Images(e, list.tags); errs[i] != nil {
			return nil, nil, errs[i]
		}
		if len(found[i]) == 0 {
			s.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s:%d: no tag of %s is chosen", s.list.Name, e.Line, e.Source)})
		}
		images = append(images, found[i]...)
	}
	plan, err := s.list.Plan(images)
	return plan, failures, err
}

// entries are those of the list, with those that stand for a registry replaced
// by its repositories.
func (s *syncing) entries(ctx context.Context) ([]synclist.Entry, []Failure) {
	var entries []synclist.Entry
	var failures []Failure
	for _, e := range s.list.Entries {
		if !e.NeedsRepositories() {
			entries = append(entries, e)
			continue
		}
		var repositories []string
		err := s.catalog(ctx, e.Source, func(page []string) error {
			repositories = append(repositories, page...)
			return nil
		})
		if err != nil {
			failures = append(failures, Failure{e.Source.Registry, err})
			continue
		}
		entries = append(entries, e.Repositories(repositories)...)
	}
	return entries, failures
}

func (s *syncing) catalog(ctx context.Context, at ref.Reference, fn func(page []string) error) error {
	session := registry.NewSession(s.opts.Source)
	defer func() { _ = session.Close() }()
	host, err := session.OpenHost(at)
	if err != nil {
		return err
	}
	return host.Catalog(ctx, fn)
}

// tagList is what a repository holds.
type tagList struct {
	tags []string
	err  error
}

func (s *syncing) repository(e synclist.Entry) string {
	return e.Source.Scheme + "//" + e.Source.Name()
}

// tagLists are the tags of the repositories from which tags are chosen, by
// repository, each listed once.
func (s *syncing) tagLists(ctx context.Context, entries []synclist.Entry) map[string]*tagList {
	lists := map[string]*tagList{}
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for _, e := range entries {
		key := s.repository(e)
		if lists[key] == nil {
			lists[key] = &tagList{}
		} else {
			continue
		}
		if !slices.ContainsFunc(entries, func(o synclist.Entry) bool { return s.repository(o) == key && o.Tags.NeedsTags() }) {
			continue
		}
		list := lists[key]
		group.Go(func() error {
			list.tags, list.err = s.tags(ctx, e.Source)
			return nil
		})
	}
	_ = group.Wait() // each has its own error
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
		return nil, fmt.Errorf("list tags of %s: its source has no list", at)
	}
	var tags []string
	err = lister.Tags(ctx, func(page []string) error {
		tags = append(tags, page...)
		return nil
	})
	return tags, err
}
