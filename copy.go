package davit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// CopyOptions tell Copy what to take and how. The zero value works: all
// platforms, anonymously.
type CopyOptions struct {
	// Platforms are those of PullOptions. None: all of them, attestations too,
	// so that the index keeps its digest. With one its manifest stands for
	// itself; with several the index is trimmed to them.
	Platforms []string
	// Source and Destination tell how registries are reached. They are two, so
	// that each side has its own credential.
	Source, Destination registry.Options
	// Transfer tunes the reading.
	Transfer transfer.Options
	// Events receives progress, warnings and steps. May be nil. It is also used
	// for the others where they have none.
	Events image.EventFunc
}

// CopyResult is what a copy has done. Its JSON is the command line's --json.
type CopyResult struct {
	// Source and Destination are full names, with the tags that were taken.
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Digest is what the destination's name means now.
	Digest digest.Digest `json:"digest"`
	// Blobs is how many the image has, Size their bytes; of those Sent bytes
	// went to the destination, and Mounted bytes it took from another
	// repository of its own. The others were there.
	Blobs   int   `json:"blobs"`
	Size    int64 `json:"size"`
	Sent    int64 `json:"sent"`
	Mounted int64 `json:"mounted"`
}

// Copy copies an image, in a registry or on disk, into a repository of a
// registry, without a file in between. What the destination has is not sent;
// on the registry that the image is in, blobs are mounted. Manifests come when
// all that they name is there, and the tag last, so that an interrupted copy
// leaves nothing that is not whole, and goes on where it was when it is run
// again. Without a tag the destination gets the source's.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Copy(ctx context.Context, source, destination string, opts CopyOptions) (CopyResult, error) {
	opts = opts.withDefaults()
	l, err := openLook(ctx, source, LookOptions{Registry: opts.Source, Transfer: opts.Transfer, Events: opts.Events})
	if err != nil {
		return CopyResult{}, err
	}
	defer l.close()
	c, err := newCopier(l, destination, opts)
	if err != nil {
		return CopyResult{}, err
	}
	defer c.close()
	img, err := c.resolve(ctx, opts.Platforms)
	if err != nil {
		return CopyResult{}, err
	}
	if err := c.name(img); err != nil {
		return CopyResult{}, err
	}
	if err := c.copy(ctx, img); err != nil {
		return CopyResult{}, fmt.Errorf("copy to %s: %w", c.destination, err)
	}
	return c.result(img), nil
}

func (o CopyOptions) withDefaults() CopyOptions {
	for _, events := range []*image.EventFunc{&o.Source.Events, &o.Destination.Events, &o.Transfer.Events} {
		if *events == nil {
			*events = o.Events
		}
	}
	return o
}

// copier copies to one repository.
type copier struct {
	*look
	destination ref.Reference
	session     *registry.Session
	target      *registry.Repository
	transfer    transfer.Options
	retries     int

	sent, mounted atomic.Int64
}

func newCopier(l *look, destination string, opts CopyOptions) (*copier, error) {
	r, err := ref.Parse(destination)
	if err != nil {
		return nil, err
	}
	c := &copier{look: l, destination: r, transfer: opts.Transfer, session: registry.NewSession(opts.Destination)}
	if c.retries = opts.Transfer.Retries; c.retries == 0 {
		c.retries = transfer.DefaultRetries
	}
	route, err := c.session.Route(r)
	if err != nil {
		return nil, errors.Join(err, c.session.Close())
	}
	if c.target, err = c.session.OpenEndpoint(route.Origin); err != nil {
		return nil, errors.Join(err, c.session.Close())
	}
	return c, nil
}

// close gives up idle connections.
func (c *copier) close() { _ = c.session.Close() }

// resolve finds the image for the wanted platforms, and trims its index where
// they are not all.
func (c *copier) resolve(ctx context.Context, platforms []string) (image.Image, error) {
	want := image.Platforms{All: true}
	if len(platforms) > 0 {
		var err error
		if want, err = image.ParsePlatforms(platforms...); err != nil {
			return image.Image{}, err
		}
	}
	img, err := c.find.Image(ctx, want)
	if err != nil {
		return image.Image{}, err
	}
	img.Source, img.Mirrors = layerSources(c.source.Source)
	root := img.Root().Digest
	if !img.KeepIndexes || want.All {
		return img, nil
	}
	if img, err = image.Trim(img); err != nil {
		return image.Image{}, fmt.Errorf("%s: trim the index: %w", c.at, err)
	}
	if img.Root().Digest != root {
		c.opts.Events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf("the index of these platforms alone has the digest %s, not %s", img.Root().Digest, root)})
	}
	return img, nil
}

// name settles what the image is called at the destination.
func (c *copier) name(img image.Image) error {
	switch d := c.destination.Digest; {
	case d != "" && d != img.Entry().Digest:
		return fmt.Errorf("copy to %s: %w: what is copied has the digest %s", c.destination, image.ErrVerification, img.Entry().Digest)
	case c.destination.TagOrDigest() == "":
		c.destination = c.destination.WithTag(img.Name.Tag)
	}
	return nil
}

// copy sends blobs, then manifests, then what has the tag.
func (c *copier) copy(ctx context.Context, img image.Image) error {
	if err := c.blobs(ctx, img); err != nil {
		return err
	}
	entry := img.Entry()
	for _, m := range img.Manifests {
		if m.Digest == entry.Digest {
			continue
		}
		if err := c.manifest(ctx, m.Content, ""); err != nil {
			return err
		}
	}
	if img.KeepIndexes {
		for _, index := range slices.Backward(img.Indexes[1:]) {
			if err := c.manifest(ctx, index, ""); err != nil {
				return err
			}
		}
	}
	return c.manifest(ctx, entry, c.destination.Tag)
}

func (c *copier) manifest(ctx context.Context, m image.Content, tag string) error {
	_, err := c.target.PushManifest(ctx, m, tag)
	return err
}

// lanes is how many blobs are sent at once.
const lanes = 8

// blobs sends what is not there. What a registry has lost in the middle is sent
// anew, as long as others come through.
func (c *copier) blobs(ctx context.Context, img image.Image) error {
	items, err := items([]image.Image{img})
	if err != nil {
		return err
	}
	for failures := 0; ; {
		before := c.sent.Load() + c.mounted.Load()
		_, err := transfer.Relay(ctx, items, c.transfer, lanes, func(i int, blob io.Reader) error {
			return c.blob(ctx, items[i].Blob, blob)
		})
		var again *image.RetryError
		if err == nil || !errors.As(err, &again) {
			if err != nil {
				return err
			}
			break
		}
		if failures++; c.sent.Load()+c.mounted.Load() > before {
			failures = 1
		}
		if failures > c.retries {
			return err
		}
	}
	for _, m := range img.Manifests {
		if err := c.blob(ctx, m.Config.Descriptor, bytes.NewReader(m.Config.Bytes)); err != nil {
			return err
		}
	}
	return nil
}

// blob sends one blob, unless it is there or can be mounted.
func (c *copier) blob(ctx context.Context, d image.Descriptor, content io.Reader) error {
	has, err := c.target.HasBlob(ctx, d)
	if err != nil || has {
		return err
	}
	mounted, err := c.target.MountBlob(ctx, d, c.look.source.Source)
	switch {
	case err != nil:
		return err
	case mounted:
		c.mounted.Add(d.Size)
		return nil
	}
	if err := c.target.PushBlob(ctx, d, content); err != nil {
		return err
	}
	c.sent.Add(d.Size)
	return nil
}

func (c *copier) result(img image.Image) CopyResult {
	r := CopyResult{
		Source: c.called(), Destination: c.destination.String(), Digest: img.Entry().Digest,
		Sent: c.sent.Load(), Mounted: c.mounted.Load(),
	}
	seen := map[digest.Digest]bool{}
	add := func(d image.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			r.Blobs++
			r.Size += d.Size
		}
	}
	for _, m := range img.Manifests {
		add(m.Config.Descriptor)
	}
	for _, d := range img.Blobs() {
		add(d)
	}
	return r
}
