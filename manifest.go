package davit

import (
	"context"
	"errors"
	"fmt"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// Document is a manifest, index or config, exactly as it was served.
type Document struct {
	// Reference is the image's full name with the tag that was chosen, or
	// where it is on disk.
	Reference string
	image.Content
}

// Manifest is what a name names, an index or a manifest; with
// LookOptions.Platform it is that platform's manifest. A document that is
// neither is given all the same, with an image.EventWarning; the digest of one
// of schema 1 is that of its bytes.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Manifest(ctx context.Context, name string, opts LookOptions) (Document, error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return Document{}, err
	}
	defer l.close()
	find := image.Finder.Root
	if opts.Platform != "" {
		find = image.Finder.Manifest
	}
	if l.genuine() != nil {
		l.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(
			"%s: an archive of docker save has no manifest: this one is made of what is in it", l.at)})
	}
	f := l.finder(l.want)
	content, err := find(f, ctx)
	var unknown *image.UnknownError
	if opts.Platform == "" && errors.As(err, &unknown) {
		l.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: unknown.Error()})
		content, err = unknown.Content, nil
	}
	return Document{l.called(f.Reference()), content}, err
}

// Config is the config of an image for LookOptions.Platform, or else for this
// machine's platform, by the rules of image.Resolve. Where an image on disk has
// not got this machine's, it is the first that is there.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Config(ctx context.Context, name string, opts LookOptions) (Document, error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return Document{}, err
	}
	defer l.close()
	f := l.finder(l.want)
	content, err := f.Config(ctx)
	if l.store != nil && opts.Platform == "" && errors.Is(err, image.ErrNotFound) {
		if present, ok := l.present(ctx); ok {
			f = l.finder(present)
			content, err = f.Config(ctx)
		}
	}
	return Document{l.called(f.Reference()), content}, err
}

// Digest is the descriptor of what a name names, as its registry tells it, with
// the full name and the tag that was chosen. Where the registry can tell it so,
// no manifest is fetched, and nothing verified. With LookOptions.Platform it is
// the descriptor of that platform's manifest, which is.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause. An archive of docker
// save has no manifest to tell of, which is an image.ErrNotFound.
func Digest(ctx context.Context, name string, opts LookOptions) (image.Descriptor, string, error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return image.Descriptor{}, "", err
	}
	defer l.close()
	switch {
	case l.genuine() != nil:
		return image.Descriptor{}, "", l.genuine()
	case opts.Platform != "":
		f := l.finder(l.want)
		manifest, err := f.Manifest(ctx)
		return manifest.Descriptor, l.called(f.Reference()), err
	case l.store != nil:
		return l.stored.Descriptor, l.called(l.finder(l.want).Reference()), nil
	}
	d, r, err := image.Describe(ctx, l.source, l.at.Reference, l.opts.Events)
	return d, l.called(r), err
}

// finder finds documents of the image.
func (l *look) finder(want image.Platforms) image.Finder {
	if l.store == nil {
		return image.NewFinder(l.source, l.at.Reference, want, l.opts.Events)
	}
	return image.NewStoredFinder(l.store, l.stored, l.at.Path, want, l.opts.Events)
}

// called is what results call the image.
func (l *look) called(r ref.Reference) string {
	if r.Repository == "" {
		return l.at.String()
	}
	return r.WithDigest("").String()
}

// genuine is an error where the manifest is one that was made here.
func (l *look) genuine() error {
	if l.stored.Made {
		return fmt.Errorf("%s: %w: an archive of docker save has no manifest, so none of its digests is a registry's", l.at, image.ErrNotFound)
	}
	return nil
}
