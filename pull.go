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

// Pull takes the image that name says out of its registry, or from the disk, and
// writes it. What an interrupted pull has fetched is used by the next one with the same
// output. Nothing stands under the output's name before it is whole and
// verified.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Pull(ctx context.Context, name string, opts PullOptions) (PullResult, error) {
	results, err := PullAll(ctx, []string{name}, opts)
	if len(results) == 0 {
		return PullResult{}, err
	}
	return results[0], err
}

// PullAll takes several images, also of several registries, into one Archive
// or OCI layout, each blob once. The results are in the order of the names, each
// of which counts once. A name is read by ParseLocation; but where nothing but a
// directory that is there tells that a path is meant (Location.Guessed), it is a
// registry's.
//
// Where some of several images cannot be had, the error is a *PullError. With
// KeepGoing the others are written, and have results. Without it nothing is
// written, and nothing fetched where one could not even be resolved; else what
// was fetched of the others is kept for the next run.
func PullAll(ctx context.Context, names []string, opts PullOptions) ([]PullResult, error) {
	want, err := image.ParsePlatforms(opts.Platforms...)
	if err != nil {
		return nil, err
	}
	var all []asked
	for _, name := range names {
		at, err := parsePulled(name)
		if err != nil {
			return nil, err
		}
		all = append(all, asked{Location: at, platforms: want})
	}
	p, err := newPull(all, opts)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return p.all(ctx)
}

func parsePulled(name string) (Location, error) {
	at, err := ParseLocation(name)
	if err == nil && at.Guessed {
		return ParseLocation("docker://" + name)
	}
	return at, err
}

// all pulls what was asked for.
func (p *pull) all(ctx context.Context) ([]PullResult, error) {
	begun := time.Now()
	if err := p.openBases(ctx); err != nil {
		return nil, err
	}
	images, failures := p.resolve(ctx)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if len(failures) > 0 && (!p.opts.KeepGoing || len(images) == 0) {
		return nil, p.failure(failures, 0)
	}
	return p.finish(ctx, begun, images, failures)
}

// finish writes the images, and tells what was written.
func (p *pull) finish(ctx context.Context, begun time.Time, images []image.Image, failures []Failure) ([]PullResult, error) {
	written, lost, err := p.writeAll(ctx, images)
	if err != nil {
		return nil, err
	}
	failures = append(failures, lost...)
	var results []PullResult
	for _, img := range withoutReferrers(written.images) {
		r := p.result(img, written)
		r.Seconds = time.Since(begun).Seconds()
		results = append(results, r)
		p.results[p.located[img.Label]] = r
	}
	if len(failures) > 0 {
		return results, p.failure(failures, len(results))
	}
	return results, nil
}

// asked is an image that is to be pulled.
type asked struct {
	Location
	platforms image.Platforms
	// name is what it is called where it goes; tag the tag alone that it gets
	// there. Empty: it is called as what it is asked by.
	name ref.Reference
	tag  string
	// referrers says that what refers to it goes along.
	referrers bool
}

func (a asked) same(b asked) bool {
	return a.Location == b.Location && a.name == b.name && a.tag == b.tag
}

// pull is one PullAll.
type pull struct {
	opts   PullOptions
	from   []asked
	bases  []base   // of PullOptions.Since
	inputs []string // files that the output may not replace
	naming string   // how an image that has no tag gets a name; empty: not at all

	sources *sources
	roots   map[string]digest.Digest // what each image was named by, by its label
	located map[string]Location      // by label
	results map[Location]PullResult  // of what was written

	referrers attachments
}

// newPull finds what is wrong before any request is made.
func newPull(all []asked, opts PullOptions) (*pull, error) {
	p := &pull{
		opts: opts, naming: ": --tag NAME gives it one",
		roots: map[string]digest.Digest{}, located: map[string]Location{}, results: map[Location]PullResult{},
	}
	if opts.Tag != "" {
		name, err := ref.ParseName(opts.Tag)
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w", opts.Tag, err)
		}
		for i := range all {
			all[i].name = name
		}
	}
	for _, a := range all {
		a.referrers = a.referrers || opts.Referrers
		p.opts.Referrers = p.opts.Referrers || a.referrers
		if !slices.ContainsFunc(p.from, a.same) {
			p.from = append(p.from, a)
		}
	}
	p.opts = p.opts.withDefaults()
	p.sources = newSources(p.opts.Registry, p.opts.Events)
	return p, p.opts.Validate(len(p.from))
}

// names are what was asked for.
func (p *pull) names() []string {
	var names []string
	for _, a := range p.from {
		names = append(names, a.String())
	}
	return names
}

// close closes what the images are in.
func (p *pull) close() { p.sources.close() }

// failure is why nothing, or not all, was written. One image's is its own.
func (p *pull) failure(failures []Failure, written int) error {
	if len(p.from) == 1 {
		return failures[0].Err
	}
	return &PullError{Failures: failures, Asked: len(p.from), Written: written}
}

// resolveJobs is how many images are resolved at once.
const resolveJobs = 8

// resolve finds the images and the names that they get, in the order of
// their names.
func (p *pull) resolve(ctx context.Context) ([]image.Image, []Failure) {
	found := make([]image.Image, len(p.from))
	roots := make([]digest.Digest, len(p.from))
	errs := make([]error, len(p.from))
	for _, at := range p.from {
		if at.Path == "" {
			_, _ = p.sources.open(at.Reference) // so that one token serves all of a registry; resolveOne tells the errors
		}
	}
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for i, a := range p.from {
		group.Go(func() error {
			found[i], roots[i], errs[i] = p.resolveOne(ctx, a)
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	var images []image.Image
	var failures []Failure
	for i, a := range p.from {
		if errs[i] != nil {
			failures = append(failures, Failure{a.String(), errs[i]})
		} else {
			images = append(images, found[i])
			p.roots[found[i].Label], p.located[found[i].Label] = roots[i], a.Location
		}
	}
	return images, failures
}

// resolveOne finds an image, and the digest that its reference names.
func (p *pull) resolveOne(ctx context.Context, a asked) (image.Image, digest.Digest, error) {
	l, err := openLookAt(ctx, a.Location, a.platforms, LookOptions{Events: p.opts.Events, sources: p.sources})
	if err != nil {
		return image.Image{}, "", err
	}
	img, err := l.resolve(ctx)
	if err != nil {
		return image.Image{}, "", p.saveUnknown(a.Reference, err)
	}
	img.Tell(a.platforms, p.opts.Events)
	img.Source, img.Mirrors = layerSources(l.source.Source)
	root := img.Root().Digest
	if img.Name, err = a.called(img.Name); err != nil {
		return image.Image{}, "", fmt.Errorf("%s: %w", img.Label, err)
	}
	if p.opts.TrimIndex {
		if img, err = image.Trim(img); err != nil {
			return image.Image{}, "", fmt.Errorf("%s: trim the index: %w", img.Label, err)
		}
		if img.KeepIndexes && img.Root().Digest != root {
			p.note("%s: the trimmed index has the digest %s, not %s", img.Label, img.Root().Digest, root)
		}
	}
	if p.opts.NoForeign && !p.opts.ManifestOnly {
		img = leaveOutForeign(img, p.opts.Format, p.opts.Events)
	}
	img = p.without(img)
	p.warn(img)
	if a.referrers {
		err = p.refer(ctx, l, img, root)
	}
	return img, root, err
}

// called is what an image of some name is called where it goes.
func (a asked) called(name ref.Reference) (ref.Reference, error) {
	switch {
	case a.name.Repository != "":
		return a.name, nil
	case a.tag == "":
		return name, nil
	case name.Repository == "":
		return ref.Reference{}, fmt.Errorf("it has no name to which the tag %s could be given: give it a whole name", a.tag)
	}
	return name.WithDigest("").WithTag(a.tag), nil
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
		all := p.withReferrers(images)
		w, err := p.write(ctx, all)
		fetched += w.stats.Fetched
		if err == nil {
			w.stats.Fetched = fetched
			return w, lost, nil
		}
		var blobs *transfer.BlobsError
		if len(p.from) == 1 && !p.opts.Referrers || !errors.As(err, &blobs) {
			return written{}, nil, err
		}
		failed, rest := p.split(all, blobs)
		rest = withoutReferrers(rest)
		if len(rest) == len(images) && p.dropReferrers(images, failed, blobs) {
			continue
		}
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
		met = met && name != ""
		switch {
		case !met:
			at[name] = len(out)
			out = append(out, img)
		case out[i].Root().Digest != img.Root().Digest:
			return nil, fmt.Errorf("%s and %s would both be called %s", out[i].Label, img.Label, name)
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
		Reference: cmp.Or(img.Reference.WithDigest("").String(), img.Label),
		Digest:    p.roots[img.Label].String(),
		Manifest:  first.Digest.String(),
		ImageID:   first.Config.Digest.String(),
		Platform:  platformOf(first),
		Format:    p.opts.Format,
		Path:      w.path,
		Parts:     w.parts,
		Layer:     w.layer,
		Size:      w.size,
		Fetched:   w.stats.Fetched,
		Referrers: len(p.referrers.of[attachedTo(img)]),
		LeftOut:   leftOut(img),
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
