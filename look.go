package davit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// LookOptions tell how images are looked at. The zero value works: this
// machine's architecture on linux, without credentials.
type LookOptions struct {
	// Platform is os/arch[/variant] and so on, as one of PullOptions.Platforms.
	Platform string
	// Registry tells how registries are reached.
	Registry registry.Options
	// Transfer tunes the reading of layers.
	Transfer transfer.Options
	// NoTOC reads layers whole, also those that have a table of contents.
	NoTOC bool
	// Events receives progress, warnings and steps. May be nil. It is also
	// used for Registry and Transfer where they have none.
	Events image.EventFunc

	sources *sources // of a command with several images; nil: each has its own
}

// want is the platform that is looked at; none is this machine's.
func (o LookOptions) want() (image.Platforms, error) {
	if o.Platform == "" {
		return image.Platforms{}, nil
	}
	want, err := image.ParsePlatforms(o.Platform)
	if err == nil && want.All {
		err = errors.New("invalid platform: one is looked at at a time")
	}
	return want, err
}

// look is one image that is looked at.
type look struct {
	opts   LookOptions
	at     Location
	want   image.Platforms
	own    *sources // nil: the options are theirs
	source *documents
	find   *image.Finder
	store  image.Store // what the source reads, where it is on disk
	stored image.Stored
}

// openLook opens where an image is, as ParseLocation reads it. For a registry
// it sends nothing. The caller ends with close.
func openLook(ctx context.Context, name string, opts LookOptions) (*look, error) {
	want, err := opts.want()
	if err != nil {
		return nil, err
	}
	at, err := ParseLocation(name)
	if err != nil {
		return nil, err
	}
	return openLookAt(ctx, at, want, opts)
}

// openLookAt is openLook for a location and platforms, in place of the options'.
func openLookAt(ctx context.Context, at Location, want image.Platforms, opts LookOptions) (*look, error) {
	l := &look{opts: opts.withDefaults(), at: at, want: want}
	if err := l.openSource(ctx); err != nil {
		return nil, err
	}
	if l.store == nil {
		l.find = image.NewFinder(l.source, l.at.Reference, l.opts.Events)
		return l, nil
	}
	var err error
	if l.stored, err = chooseStored(l.store.Images(), l.at); err != nil {
		l.close()
		return nil, err
	}
	l.find = image.NewStoredFinder(l.source, l.stored, l.at.Path, l.opts.Events)
	return l, nil
}

// openSource opens the source that the location names. On error nothing stays
// open.
func (l *look) openSource(ctx context.Context) error {
	sources := l.opts.sources
	if sources == nil {
		sources = newSources(l.opts.Registry, l.opts.Events)
		l.own = sources
	}
	var source image.Source
	var err error
	if l.at.Path == "" {
		source, err = sources.open(l.at.Reference)
	} else {
		l.store, err = sources.store(ctx, l.at.Path)
		source = l.store
	}
	if err != nil {
		l.close()
		return err
	}
	l.source = sources.documents(source)
	return nil
}

func (o LookOptions) withDefaults() LookOptions {
	if o.Registry.Events == nil {
		o.Registry.Events = o.Events
	}
	if o.Transfer.Events == nil {
		o.Transfer.Events = (&reading{events: o.Events}).send
	}
	if o.Transfer.Verdicts == nil {
		o.Transfer.Verdicts = new(transfer.Verdicts)
	}
	return o
}

// close gives up what is open, but for what is the command's.
func (l *look) close() {
	if l.own != nil {
		l.own.close()
	}
}

// chooseStored finds the image that was asked for. What is kept there for
// others, as their referrers are, has to be asked for by name.
func chooseStored(all []image.Stored, at Location) (image.Stored, error) {
	images := image.WithoutReferrers(all)
	if at.Image == "" {
		if first := images[0]; !slices.ContainsFunc(images, func(s image.Stored) bool { return s.Digest != first.Digest }) {
			return first, nil
		}
		return image.Stored{}, fmt.Errorf("%s holds several images: name one of them: %s", at.Path, storedNames(images, at.Path))
	}
	var found []image.Stored
	for _, s := range all {
		if isCalled(s, at.Image) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return image.Stored{}, fmt.Errorf("%s holds no image %q: %w; it holds: %s", at.Path, at.Image, image.ErrNotFound, storedNames(images, at.Path))
	}
	if slices.ContainsFunc(found, func(s image.Stored) bool { return s.Digest != found[0].Digest }) {
		return image.Stored{}, fmt.Errorf("%s holds several images that may be called %q: name one of them: %s", at.Path, at.Image, storedNames(found, at.Path))
	}
	return found[0], nil
}

// isCalled says whether a stored image may be called so.
func isCalled(s image.Stored, name string) bool {
	if name == s.Digest.String() || name == s.Name || name == s.RefName {
		return true
	}
	stored, err := ref.Parse(s.Name)
	if err != nil || s.Name == "" {
		return false
	}
	if name == stored.Tag {
		return true
	}
	asked, err := ref.Parse(name)
	switch {
	case err != nil || asked.Name() != stored.Name():
		return false
	case asked.Digest != "":
		return asked.Digest == s.Digest
	}
	return asked.Tag == "" || asked.Tag == stored.Tag
}

// maxNames is how many names of a store an error lists.
const maxNames = 20

func storedNames(images []image.Stored, path string) string {
	var names []string
	for i, s := range images {
		if i == maxNames {
			names = append(names, fmt.Sprintf("and %d more", len(images)-i))
			break
		}
		at := Location{Path: path, Image: s.Name}
		switch {
		case s.Name == "" && s.RefName != "":
			at.Image = s.RefName
		case s.Name == "":
			at.Image = s.Digest.String()
		}
		names = append(names, at.String())
	}
	return strings.Join(names, ", ")
}

// resolve finds the image for the wanted platform, by the rules of here.
func (l *look) resolve(ctx context.Context) (image.Image, error) {
	return here(ctx, l, l.find.Image)
}

// here finds something for the wanted platform. Of an image on disk that has
// not got this machine's, it takes what is there, with a note.
func here[T any](ctx context.Context, l *look, find func(context.Context, image.Platforms) (T, error)) (T, error) {
	found, err := find(ctx, l.want)
	if l.store == nil || l.want.All || len(l.want.List) > 0 || !errors.Is(err, image.ErrNotFound) {
		return found, err
	}
	if present, ok := l.present(ctx); ok {
		return find(ctx, l.instead(present))
	}
	return found, err
}

// instead is a platform that is looked at in place of this machine's, which is
// told.
func (l *look) instead(p image.Platform) image.Platforms {
	name := l.at.String()
	if l.store == nil {
		name = l.called()
	}
	l.opts.Events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf("%s is not there for %s, this machine's platform; looking at %s",
		name, image.FormatPlatform(image.DefaultPlatform()), image.FormatPlatform(p))})
	return image.Platforms{List: []image.Platform{p}}
}

// present is the first platform whose manifest a store has, though its index
// may name others.
func (l *look) present(ctx context.Context) (image.Platform, bool) {
	listing, err := l.find.List(ctx)
	if err != nil {
		return image.Platform{}, false
	}
	for _, d := range listing.Manifests {
		if d.Platform == nil || image.IsAttestation(d) {
			continue
		}
		if _, err := l.source.Manifest(ctx, d.Digest.String()); err == nil {
			return *d.Platform, true
		}
	}
	return image.Platform{}, false
}

// name is what messages call the image.
func (l *look) name(img image.Image) string {
	if img.Name.Repository == "" {
		return l.at.String()
	}
	return img.Name.String()
}

// item is a layer to be read from where the image is.
func (l *look) item(layer image.Descriptor) transfer.Item {
	source, mirrors := layerSources(l.source.Source)
	return transfer.Item{Blob: layer, Source: source, Mirrors: mirrors}
}
