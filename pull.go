package davit

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// Pull takes the image that reference names out of its registry and writes it
// as one archive. What an interrupted pull has fetched is used by the next
// one with the same output. Nothing stands under the output's name before it
// is whole and verified.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Pull(ctx context.Context, reference string, opts PullOptions) (PullResult, error) {
	begun := time.Now()
	r, err := ref.Parse(reference)
	if err != nil {
		return PullResult{}, err
	}
	opts = opts.withEvents()
	repository, err := registry.Open(r, opts.Registry)
	if err != nil {
		return PullResult{}, err
	}
	defer func() { _ = repository.Close() }() // its idle connections
	img, err := resolve(ctx, repository, r, opts)
	if err != nil {
		return PullResult{}, err
	}
	layout, err := archive.NewLayout(img)
	if err != nil {
		return PullResult{}, err
	}
	warn(img, opts.Events)
	result := PullResult{
		Reference: img.Reference.WithDigest("").String(),
		Digest:    img.Root().Digest.String(),
		Manifest:  img.Manifests[0].Digest.String(),
		ImageID:   img.Manifests[0].Config.Digest.String(),
		Size:      layout.Size(),
	}
	if !img.IsArtifact() {
		result.Platform = image.FormatPlatform(img.Manifests[0].Platform)
	}
	var stats transfer.Stats
	if opts.Stream != nil {
		stats, err = stream(ctx, img, layout, opts)
	} else {
		result.Path = opts.Output
		if result.Path == "" {
			result.Path = DefaultOutput(img, opts.Platform != "")
		}
		stats, err = write(ctx, result.Path, img, layout, opts)
	}
	if err != nil {
		return PullResult{}, err
	}
	result.Fetched = stats.Fetched
	result.Seconds = time.Since(begun).Seconds()
	return result, nil
}

// withEvents sends the events of all rooms to the one receiver, where they
// have none of their own.
func (o PullOptions) withEvents() PullOptions {
	if o.Registry.Events == nil {
		o.Registry.Events = o.Events
	}
	if o.Transfer.Events == nil {
		o.Transfer.Events = o.Events
	}
	return o
}

// resolve finds the image and the name that it gets in the archive.
func resolve(ctx context.Context, src image.Source, r ref.Reference, opts PullOptions) (image.Image, error) {
	var platform image.Platforms
	if opts.Platform != "" {
		var err error
		if platform, err = image.ParsePlatforms(opts.Platform); err != nil {
			return image.Image{}, err
		}
	}
	var tag ref.Reference
	if opts.Tag != "" {
		var err error
		if tag, err = ref.ParseName(opts.Tag); err != nil {
			return image.Image{}, fmt.Errorf("tag %q: %w", opts.Tag, err)
		}
	}
	img, err := image.Resolve(ctx, src, r, platform, opts.Events)
	if err != nil {
		return image.Image{}, err
	}
	if opts.Tag != "" {
		img.Name = tag
	}
	return img, nil
}

// warn tells what some loaders will not make of the archive.
func warn(img image.Image, events image.EventFunc) {
	warning := func(text string) { events.Send(image.Event{Kind: image.EventWarning, Text: text}) }
	if img.IsArtifact() {
		warning(fmt.Sprintf("%s is no container image (its config is %s): loaders will not take the archive", img.Reference, img.Manifests[0].Config.MediaType))
	}
	if img.Name.Tag == "" {
		warning("the image has no tag, so docker and podman load it without a name: --tag NAME gives it one")
	}
	if slices.ContainsFunc(img.Manifests[0].Layers, func(d image.Descriptor) bool { return strings.HasSuffix(d.MediaType, "+zstd") }) {
		events.Send(image.Event{Kind: image.EventNote, Text: "the image's layers are compressed with zstd: Docker loads those from version 23 on"})
	}
	for _, d := range append([]image.Descriptor{img.Manifests[0].Descriptor, img.Manifests[0].Config.Descriptor}, img.Manifests[0].Layers...) {
		if d.Digest.Algorithm() != "sha256" {
			warning(fmt.Sprintf("the image has %s digests: only classic Docker and podman load such an archive", d.Digest.Algorithm()))
			return
		}
	}
}

// items are the blobs to fetch, each with its place, or with none.
func items(img image.Image, layout *archive.Layout, place func(image.Descriptor) image.Place) []transfer.Item {
	var items []transfer.Item
	for _, blob := range layout.Blobs() {
		items = append(items, transfer.Item{Blob: blob, Source: img.Source, Place: place(blob)})
	}
	return items
}

// write puts the archive into a file.
func write(ctx context.Context, path string, img image.Image, layout *archive.Layout, opts PullOptions) (transfer.Stats, error) {
	path, err := outputFile(path)
	if err != nil {
		return transfer.Stats{}, err
	}
	file, err := archive.Create(path, layout, opts.Restart)
	if err != nil {
		return transfer.Stats{}, err
	}
	defer func() { _ = file.Close() }() // what it might lose, the next run fetches again
	place := func(blob image.Descriptor) image.Place { return file.Place(blob.Digest) }
	stats, err := transfer.Fetch(ctx, items(img, layout, place), opts.Transfer)
	if err != nil {
		return stats, fmt.Errorf("pull %s: %w", img.Reference, err)
	}
	if err := file.Commit(); err != nil {
		return stats, fmt.Errorf("finish %s: %w", path, err)
	}
	return stats, nil
}

// stream puts the archive into a writer, in order.
func stream(ctx context.Context, img image.Image, layout *archive.Layout, opts PullOptions) (transfer.Stats, error) {
	out := archive.NewStream(opts.Stream, layout)
	none := func(image.Descriptor) image.Place { return nil }
	stats, err := transfer.Stream(ctx, items(img, layout, none), opts.Transfer,
		func(_ int, blob io.Reader) error { return out.Blob(blob) })
	if err != nil {
		return stats, fmt.Errorf("pull %s: %w", img.Reference, err)
	}
	return stats, out.Close()
}

// outputFile follows a link to the file that is to be replaced, and refuses
// what is no file: a directory, a device, a pipe.
func outputFile(path string) (string, error) {
	if base := filepath.Base(path); os.IsPathSeparator(path[len(path)-1]) || base == "." || base == ".." {
		return "", fmt.Errorf("write %s: it names a directory: name a file in it", path)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return path, nil // not there, or nothing that the writing would not meet
	}
	target := path
	if info.Mode()&os.ModeSymlink != 0 {
		if info, err = os.Stat(path); err == nil && info.Mode().IsRegular() {
			target, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			return "", fmt.Errorf("write %s: it is a link that leads nowhere: %w", path, err)
		}
	}
	switch {
	case info.IsDir():
		return "", fmt.Errorf("write %s: it is a directory: name a file in it", path)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("write %s: it is no regular file (-o - writes to a pipe)", path)
	}
	return target, nil
}
