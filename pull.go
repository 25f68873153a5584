package davit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/transfer"
)

// Pull takes the image that reference names out of its registry and writes it.
// What an interrupted pull has fetched is used by the next one with the same
// output. Nothing stands under the output's name before it is whole and
// verified.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Pull(ctx context.Context, reference string, opts PullOptions) (PullResult, error) {
	results, err := PullAll(ctx, []string{reference}, opts)
	if len(results) == 0 {
		return PullResult{}, err
	}
	return results[0], err
}

// PullAll takes several images, also of several registries, into one Archive
// or OCI layout, each blob once. The results are in the order of the
// references, each of which counts once.
//
// Where some of several images cannot be had, the error is a *PullError. With
// KeepGoing the others are written, and have results. Without it nothing is
// written, and nothing fetched where one could not even be resolved; else what
// was fetched of the others is kept for the next run.
func PullAll(ctx context.Context, references []string, opts PullOptions) ([]PullResult, error) {
	begun := time.Now()
	p, err := newPull(references, opts)
	if err != nil {
		return nil, err
	}
	defer p.close()
	images, failures := p.resolve(ctx)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if len(failures) > 0 && (!p.opts.KeepGoing || len(images) == 0) {
		return nil, p.failure(failures, 0)
	}
	written, lost, err := p.writeAll(ctx, images)
	if err != nil {
		return nil, err
	}
	failures = append(failures, lost...)
	var results []PullResult
	for _, img := range written.images {
		r := p.result(img, written)
		r.Seconds = time.Since(begun).Seconds()
		results = append(results, r)
	}
	if len(failures) > 0 {
		return results, p.failure(failures, len(results))
	}
	return results, nil
}

// pull is one PullAll.
type pull struct {
	opts       PullOptions
	references []ref.Reference
	platforms  image.Platforms
	tag        ref.Reference

	sources *sources
	roots   map[ref.Reference]digest.Digest // what each image's reference named
}

// newPull finds what is wrong before any request is made.
func newPull(references []string, opts PullOptions) (*pull, error) {
	p := &pull{opts: opts.withDefaults(), roots: map[ref.Reference]digest.Digest{}}
	p.sources = newSources(p.opts.Registry, p.opts.Events)
	for _, s := range references {
		r, err := ref.Parse(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(p.references, r) {
			p.references = append(p.references, r)
		}
	}
	var err error
	if p.platforms, err = image.ParsePlatforms(opts.Platforms...); err != nil {
		return nil, err
	}
	if opts.Tag != "" {
		if p.tag, err = ref.ParseName(opts.Tag); err != nil {
			return nil, fmt.Errorf("tag %q: %w", opts.Tag, err)
		}
	}
	return p, p.opts.Validate(len(p.references))
}

// withDefaults also sends the events of all rooms to the one receiver, where
// they have none of their own.
func (o PullOptions) withDefaults() PullOptions {
	if o.Format == "" {
		o.Format = Archive
	}
	if o.Registry.Events == nil {
		o.Registry.Events = o.Events
	}
	if o.Transfer.Events == nil {
		o.Transfer.Events = o.Events
	}
	if o.Transfer.Verdicts == nil {
		o.Transfer.Verdicts = new(transfer.Verdicts)
	}
	return o
}

// Validate refuses options that contradict each other, for a pull of so many
// images. PullAll does so before it makes any request.
func (o PullOptions) Validate(images int) error {
	o = o.withDefaults()
	platforms, err := image.ParsePlatforms(o.Platforms...)
	if err != nil {
		return err
	}
	several := images > 1
	flat := o.Format == Rootfs || o.Format == Files
	carried := o.Format == Archive || o.Format == OCI
	switch {
	case !slices.Contains(Formats(), o.Format):
		return fmt.Errorf("there is no format %q", string(o.Format))
	case images == 0:
		return errors.New("no image is named")
	case several && !carried:
		return fmt.Errorf("format %s takes one image at a time, not %d", o.Format, images)
	case o.checkSplit() != nil:
		return o.checkSplit()
	case several && o.Output == "" && o.Stream == nil:
		return errors.New("several images need an output with a name")
	case several && o.Tag != "":
		return errors.New("a tag is for one image, not for several")
	case o.Tag != "" && !carried:
		return fmt.Errorf("format %s has no name for the image, so no use for a tag", o.Format)
	case flat && (platforms.All || len(platforms.List) > 1):
		return fmt.Errorf("format %s takes one platform at a time", o.Format)
	case o.TrimIndex && !carried:
		return fmt.Errorf("format %s has no index that could be trimmed", o.Format)
	case o.Stream != nil && o.Format != Archive && o.Format != Rootfs:
		return fmt.Errorf("format %s is a directory and cannot be streamed", o.Format)
	case o.Layers != "" && !carried:
		return fmt.Errorf("format %s has no layers to re-encode", o.Format)
	case o.Layers != "" && o.Layers != Gzip && o.Layers != None:
		return fmt.Errorf("layers are re-encoded as gzip or none, not as %q", string(o.Layers))
	case o.Compress != "" && o.Format != Rootfs:
		return fmt.Errorf("format %s is not compressed as a whole", o.Format)
	case o.Compress != "" && !slices.Contains([]Compression{None, Gzip, Zstd}, o.Compress):
		return fmt.Errorf("there is no compression %q: want none, gzip or zstd", string(o.Compress))
	case o.Format == Rootfs && o.Compress == "" && !writable(o.Output):
		return fmt.Errorf("write %s: there is no compression %s: want a name that ends with .tar, .tar.gz or .tar.zst", o.Output, suffix(o.Output))
	case o.SaveConfig != "" && !flat:
		return fmt.Errorf("format %s has the config in it already: it is saved beside rootfs and files", o.Format)
	case o.ManifestOnly && o.Format != Components:
		return fmt.Errorf("format %s needs the layers: only components go without", o.Format)
	}
	return cmp.Or(o.checkSaveConfig(o.Output), o.checkLevel())
}

// directory says whether the format is a directory.
func (o PullOptions) directory() bool {
	return slices.Contains([]Format{OCI, Components, Files}, o.Format)
}

// checkLevel refuses a level that the compression does not have.
func (o PullOptions) checkLevel() error {
	compression, most := o.Compress, 9
	switch {
	case o.Layers != "":
		compression = o.Layers
	case o.Format == Rootfs && compression == "" && o.Output != "":
		compression = CompressionOf(o.Output)
	case o.Format == Rootfs && compression == "":
		compression = Gzip
	}
	if compression == Zstd {
		most = 19
	}
	switch {
	case o.Level == 0:
		return nil
	case compression == "" || compression == None:
		return errors.New("a level is for what is compressed: layers re-encoded as gzip, or a rootfs as gzip or zstd")
	case o.Level < 1 || o.Level > most:
		return fmt.Errorf("%s has levels 1 to %d, not %d", compression, most, o.Level)
	}
	return nil
}

// close gives up idle connections.
func (p *pull) close() { p.sources.close() }

// failure is why nothing, or not all, was written. One image's is its own.
func (p *pull) failure(failures []Failure, written int) error {
	if len(p.references) == 1 {
		return failures[0].Err
	}
	return &PullError{Failures: failures, Asked: len(p.references), Written: written}
}

// resolveJobs is how many images are resolved at once.
const resolveJobs = 8

// resolve finds the images and the names that they get, in the order of the
// references.
func (p *pull) resolve(ctx context.Context) ([]image.Image, []Failure) {
	found := make([]image.Image, len(p.references))
	roots := make([]digest.Digest, len(p.references))
	errs := make([]error, len(p.references))
	for _, r := range p.references {
		_, _ = p.sources.open(r) // so that one token serves all of a registry; resolveOne tells the errors
	}
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for i, r := range p.references {
		group.Go(func() error {
			found[i], roots[i], errs[i] = p.resolveOne(ctx, r)
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	var images []image.Image
	var failures []Failure
	for i, r := range p.references {
		if errs[i] != nil {
			failures = append(failures, Failure{r.String(), errs[i]})
		} else {
			images = append(images, found[i])
			p.roots[found[i].Reference] = roots[i]
		}
	}
	return images, failures
}

// resolveOne finds an image, and the digest that its reference names.
func (p *pull) resolveOne(ctx context.Context, r ref.Reference) (image.Image, digest.Digest, error) {
	source, err := p.sources.open(r)
	if err != nil {
		return image.Image{}, "", err
	}
	img, err := image.Resolve(ctx, source, r, p.platforms, p.opts.Events)
	if err != nil {
		return image.Image{}, "", p.saveUnknown(r, err)
	}
	img.Tell(p.platforms, p.opts.Events)
	img.Source, img.Mirrors = layerSources(source)
	root := img.Root().Digest
	if p.opts.Tag != "" {
		img.Name = p.tag
	}
	if p.opts.TrimIndex {
		if img, err = image.Trim(img); err != nil {
			return image.Image{}, "", fmt.Errorf("%s: trim the index: %w", img.Reference, err)
		}
		if img.KeepIndexes && img.Root().Digest != root {
			p.note("%s: the trimmed index has the digest %s, not %s", img.Reference, img.Root().Digest, root)
		}
	}
	if p.opts.NoForeign {
		img = p.leaveOut(img)
	}
	p.warn(img)
	return img, root, nil
}

// written is what came out of a pull.
type written struct {
	images []image.Image // as written
	path   string
	parts  []string
	size   int64 // 0: each image's own
	layer  string
	stats  transfer.Stats
}

// writeAll writes the images; where some of several cannot be had, it tells
// them, and with KeepGoing writes the others.
func (p *pull) writeAll(ctx context.Context, images []image.Image) (written, []Failure, error) {
	images, err := distinct(images)
	if err != nil {
		return written{}, nil, err
	}
	var lost []Failure
	var fetched int64
	for {
		w, err := p.write(ctx, images)
		fetched += w.stats.Fetched
		if err == nil {
			w.stats.Fetched = fetched
			return w, lost, nil
		}
		var blobs *transfer.BlobsError
		if len(p.references) == 1 || !errors.As(err, &blobs) {
			return written{}, nil, err
		}
		failed, rest := p.split(images, blobs)
		lost = append(lost, failed...)
		if !p.opts.KeepGoing || len(rest) == 0 {
			return written{}, nil, p.failure(lost, 0)
		}
		images = rest
	}
}

// distinct leaves out images that were asked for twice, once with the index's
// digest perhaps, whose index is kept then; and refuses two that would have one
// name: a loader would know only one.
func distinct(images []image.Image) ([]image.Image, error) {
	at := map[string]int{}
	var out []image.Image
	for _, img := range images {
		name := img.Name.String()
		i, met := at[name]
		switch {
		case !met:
			at[name] = len(out)
			out = append(out, img)
		case out[i].Root().Digest != img.Root().Digest:
			return nil, fmt.Errorf("%s and %s would both be called %s", out[i].Reference, img.Reference, name)
		case img.KeepIndexes:
			out[i] = img
		}
	}
	return out, nil
}

// result tells what was written of an image.
func (p *pull) result(img image.Image, w written) PullResult {
	first := img.Manifests[0]
	r := PullResult{
		Reference: img.Reference.WithDigest("").String(),
		Digest:    p.roots[img.Reference].String(),
		Manifest:  first.Digest.String(),
		ImageID:   first.Config.Digest.String(),
		Platform:  platformOf(first),
		Format:    p.opts.Format,
		Path:      w.path,
		Parts:     w.parts,
		Layer:     w.layer,
		Size:      w.size,
		Fetched:   w.stats.Fetched,
	}
	if config, err := image.ParseConfig(first.Config); err == nil && first.IsImage() {
		r.Labels = config.Config.Labels
	}
	if img.KeepIndexes {
		r.Index = img.Entry().Digest.String()
	}
	if len(img.Manifests) > 1 {
		for _, m := range img.Manifests {
			r.Manifests = append(r.Manifests, ManifestResult{m.Digest.String(), m.Config.Digest.String(), platformOf(m)})
		}
	}
	if w.size == 0 {
		for _, c := range img.Documents() {
			r.Size += c.Size
		}
		for _, blob := range img.Blobs() {
			r.Size += blob.Size
		}
	}
	return r
}

func platformOf(m image.Manifest) string {
	if !m.IsImage() {
		return ""
	}
	return image.FormatPlatform(m.Platform)
}

func (p *pull) note(format string, args ...any) {
	p.opts.Events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf(format, args...)})
}

func (p *pull) warning(format string, args ...any) {
	p.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(format, args...)})
}
