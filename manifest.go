package davit

import (
	"context"
	"errors"
	"fmt"

	"github.com/davit-cli/davit/image"
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
	if l.genuine() != nil {
		l.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(
			"%s: an archive of docker save has no manifest: this one is made of what is in it", l.at)})
	}
	if opts.Platform != "" {
		content, err := l.find.Manifest(ctx, l.want)
		return Document{l.called(), content}, err
	}
	content, err := l.find.Root(ctx)
	var unknown *image.UnknownError
	if errors.As(err, &unknown) {
		l.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: unknown.Error()})
		content, err = unknown.Content, nil
	}
	return Document{l.called(), content}, err
}

// Config is the config of an image for LookOptions.Platform, or else for this
// machine's platform, by the rules of image.Resolve. Where an image on disk has
// not got this machine's, it is the first that is there, with a note.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Config(ctx context.Context, name string, opts LookOptions) (Document, error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return Document{}, err
	}
	defer l.close()
	content, err := here(ctx, l, l.find.Config)
	return Document{l.called(), content}, err
}

// Description is what a name names, as its registry or an index tells of it.
type Description struct {
	// Reference is as a Document has it.
	Reference string
	image.Descriptor
}

// Digest is the descriptor of what a name names, as its registry tells it. Where
// the registry can tell it so, no manifest is fetched, and nothing verified. With
// LookOptions.Platform it is the descriptor of that platform's manifest, as the
// index has it, which is fetched and verified; where none tells the platform,
// manifest and config are.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause. An archive of docker
// save has no manifest to tell of, which is an image.ErrNotFound.
func Digest(ctx context.Context, name string, opts LookOptions) (Description, error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return Description{}, err
	}
	defer l.close()
	if err := l.genuine(); err != nil {
		return Description{}, err
	}
	var d image.Descriptor
	if opts.Platform != "" {
		d, err = l.find.DescribeManifest(ctx, l.want)
	} else {
		d, err = l.find.DescribeRoot(ctx)
	}
	return Description{l.called(), d}, err
}

// called is what results call the image.
func (l *look) called() string {
	r := l.find.Reference()
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
