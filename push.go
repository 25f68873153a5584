package davit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// Push copies images from the disk into a registry: PushItems, then CopyAll.
func Push(ctx context.Context, sources []string, destination string, opts CopyOptions) ([]CopyResult, error) {
	items, err := PushItems(ctx, sources, destination)
	if err != nil {
		return nil, err
	}
	return CopyAll(ctx, items, opts)
}

// ErrDestination is an image of which PushItems cannot tell where it goes.
var ErrDestination = errors.New("no clear destination")

// PushItems are the images in archives, layouts and components, each with where
// in a registry it goes. Sources are read by ParseLocation, and name all images
// of what they are in, or one of them. A destination says where they go:
//
//	(empty)               each by its own name
//	registry.lan/app:1    the one image there is, by this name
//	registry.lan/mirror/  each below it, by its own path without its registry, and
//	                      its own tag: registry.lan/mirror/library/alpine:3.20
//
// What refers to other images, as signatures do that were copied along, is no
// image of its own here, unless a source names it.
//
// Where an image has no name that this needs, where there are several in place
// of the one, or two would have the same name, nothing is pushed, and the error
// tells which. It sends nothing.
func PushItems(ctx context.Context, sources []string, destination string) ([]CopyItem, error) {
	var found []pushed
	for _, source := range sources {
		images, err := findPushed(ctx, source)
		if err != nil {
			return nil, err
		}
		found = append(found, images...)
	}
	destination = strings.TrimSpace(destination)
	if destination != "" && !strings.HasSuffix(destination, "/") {
		return pushOne(found, destination)
	}
	return pushByName(found, strings.TrimPrefix(destination, "docker://"))
}

// pushed is an image on disk that is to be pushed.
type pushed struct {
	image.Stored
	at Location
}

// findPushed finds what a source names.
func findPushed(ctx context.Context, source string) ([]pushed, error) {
	at, err := ParseLocation(source)
	if err != nil {
		return nil, err
	}
	if at.Path == "" {
		return nil, fmt.Errorf("%w: there is no image on disk at %q", ref.ErrInvalid, source)
	}
	store, err := openStore(ctx, at.Path, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	images := image.WithoutReferrers(store.Images())
	if at.Image != "" {
		chosen, err := chooseStored(store.Images(), at)
		if err != nil {
			return nil, err
		}
		images = []image.Stored{chosen}
	}
	if at.Guessed {
		at.Path = "./" + at.Path // so that nobody has to guess again
	}
	var found []pushed
	for _, s := range images {
		found = append(found, pushed{s, Location{Path: at.Path, Image: chosenBy(s)}})
	}
	return found, nil
}

// chosenBy is what chooses a stored image among others.
func chosenBy(s image.Stored) string {
	switch {
	case s.Name != "":
		return s.Name
	case s.RefName != "":
		return s.RefName
	}
	return s.Digest.String()
}

// pushOne is the one image that goes to a name. It may be there by several.
func pushOne(found []pushed, destination string) ([]CopyItem, error) {
	to, err := ref.Parse(destination)
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		if p.Digest != found[0].Digest {
			return nil, fmt.Errorf("%w: there are several images to be pushed as %s: name one of them: %s", ErrDestination, destination, pushedNames(found))
		}
	}
	return []CopyItem{{Source: found[0].at.String(), Destination: nameInRegistry(to)}}, nil
}

func pushedNames(found []pushed) string {
	var names []string
	for i, p := range found {
		if i == maxNames {
			names = append(names, fmt.Sprintf("and %d more", len(found)-i))
			break
		}
		names = append(names, p.at.String())
	}
	return strings.Join(names, ", ")
}

// pushByName are the images by their own names, below a prefix where that is not
// empty.
func pushByName(found []pushed, prefix string) ([]CopyItem, error) {
	var items []CopyItem
	met := map[string]digest.Digest{}
	for _, p := range found {
		if p.Name == "" {
			return nil, fmt.Errorf("%w: %s has no name that tells where it goes: name it, such as registry.lan/app:1", ErrDestination, p.at)
		}
		to, err := ref.Parse(p.Name)
		if err == nil && prefix != "" {
			if to, err = below(prefix, to); err != nil {
				return nil, fmt.Errorf("%s below %s: %w", p.at, prefix, err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("name of %s: %w", p.at, err)
		}
		name := nameInRegistry(to)
		switch other, ok := met[name]; {
		case ok && other != p.Digest:
			return nil, fmt.Errorf("%w: %s is not the only image that would become %s", ErrDestination, p.at, to)
		case !ok:
			met[name] = p.Digest
			items = append(items, CopyItem{Source: p.at.String(), Destination: name})
		}
	}
	return items, nil
}

// below is a name below a prefix, which ends in a slash: its path without its
// registry, and its tag or digest.
func below(prefix string, r ref.Reference) (ref.Reference, error) {
	to, err := ref.Parse(prefix + r.Repository)
	return to.WithTag(r.Tag).WithDigest(r.Digest), err
}
