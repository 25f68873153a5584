package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// manifest asks for the manifest's header and reports how the registry was
// convinced, then takes the manifest, as a pull does. ok tells whether it is one
// to read.
func (e *examination) manifest(ctx context.Context, asked string) (content image.Content, ok bool) {
	asked = cmp.Or(asked, e.reference.Tag, "latest")
	separator := ":"
	if strings.Contains(asked, ":") {
		separator = "@"
	}
	step := "get manifest " + e.repository.name + separator + asked
	at := e.repository.at("/v2/" + e.repository.name + "/manifests/" + asked)
	resp, err := e.client.hop(ctx, step, http.MethodHead, at, http.Header{"Accept": {strings.Join(manifestTypes, ", ")}}, nil)
	trips := e.watch.take()
	if ctx.Err() != nil {
		return content, false
	}
	if err == nil {
		discard(resp)
		e.quota = resp.Header
	}
	refusal := func() error { return e.client.refusal(step, resp, at) }
	if !e.access(trips, at.url.Path, err, refusal) {
		return content, false
	}
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		err = refusal() // with all that there is to show: a wrong password is not shown twice
	} else {
		content, err = e.take(ctx, asked)
	}
	e.watch.take()
	if ctx.Err() != nil {
		return content, false
	}
	if err == nil {
		err = readable(content)
	}
	if err != nil {
		e.fault(Finding{Hop: HopManifest, Text: err.Error(), Err: err})
		e.stop(HopManifest)
		return content, false
	}
	e.digest = content.Digest.String()
	e.tell(Finding{Hop: HopManifest, Status: StatusOK,
		Text: fmt.Sprintf("%s, %s, %d bytes", content.Digest, content.MediaType, content.Size),
		Details: map[string]string{
			"digest": e.digest, "media_type": content.MediaType, "size": fmt.Sprint(content.Size),
		}})
	return content, true
}

// take is the manifest; where there is no latest the newest version's, as a pull
// takes it.
func (e *examination) take(ctx context.Context, asked string) (image.Content, error) {
	content, err := e.repository.Manifest(ctx, asked)
	if e.mirror != "" || e.reference.TagOrDigest() != "" || !errors.Is(err, image.ErrNotFound) {
		return content, err
	}
	img, err := image.Resolve(ctx, e.repository, e.reference, image.Platforms{}, nil)
	switch {
	case err != nil:
		return image.Content{}, err
	case len(img.Indexes) > 0:
		return img.Indexes[0], nil
	}
	return img.Manifests[0].Content, nil
}

// readable says whether a document is a manifest or an index that davit reads.
func readable(content image.Content) error {
	var err error
	if image.IsIndex(content.MediaType) {
		_, err = image.ParseIndex(content)
	} else {
		_, err = image.ParseManifest(content)
	}
	return err
}

// sample is how many bytes of a blob are asked for.
const sample = 4 << 10

// blob asks for a part of the image's largest layer, and reports the hops to
// who serves it, and whether that serves ranges.
func (e *examination) blob(ctx context.Context, content image.Content) {
	layer, err := e.largest(ctx, content)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		e.fault(Finding{Hop: HopManifest, Text: err.Error(), Err: err})
		e.stop(HopManifest)
		return
	case layer.Size == 0:
		e.skip("the image has nothing to fetch", HopBlob, HopRanges)
		return
	}
	e.watch.take()
	// Not from the first byte on, so that a server which takes no notice of the
	// range is found out.
	n := min(sample, max(layer.Size-1, 1))
	off := layer.Size - n
	got, err := e.repository.OpenRange(ctx, layer, off, n)
	var noRanges *image.NoRangeError
	ignored := errors.As(err, &noRanges)
	if ignored && ctx.Err() == nil {
		e.watchStorage(nil)
		e.served(layer, noRanges.Host)
		e.ranges(fmt.Sprintf("none: %s", refusalText(noRanges.Err)), err)
		return
	}
	if err == nil {
		err = e.read(got, off, n)
	}
	if ctx.Err() != nil {
		return
	}
	if e.watchStorage(err) {
		e.skip(e.stopped, HopBlob)
		e.stop(HopBlob)
		return
	}
	if err != nil {
		e.fault(Finding{Hop: HopBlob, Text: err.Error(), Err: err})
		e.stop(HopBlob)
		return
	}
	e.served(layer, got.Host)
	switch {
	case layer.Size < 2:
		e.skip("the layer is too small for a range", HopRanges)
	case got.Start != off || got.Len != n:
		e.ranges(fmt.Sprintf("none: asked for %d bytes from %d, it sends %d from %d", n, off, got.Len, got.Start), nil)
	default:
		e.tell(Finding{Hop: HopRanges, Host: got.Host, Status: StatusOK, Text: fmt.Sprintf("206, bytes %d-%d of %d", off, off+n-1, layer.Size)})
	}
}

// read reads what is asked for of a range, and closes it.
func (e *examination) read(got *image.Range, off, n int64) error {
	defer func() { _ = got.Body.Close() }()
	if got.Start != off {
		return nil // the whole blob, which nobody wants
	}
	data, err := readSome(got.Body, int(min(n, sample)))
	if err == nil && int64(len(data)) < got.Len && int64(len(data)) < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read a range of a blob from %s: %w", got.Host, err)
	}
	return nil
}

// watchStorage reports the hops to the hosts that the trips for a blob went to.
// err is what the last of them failed of. It tells whether a connection failed.
func (e *examination) watchStorage(err error) bool {
	trips := e.watch.take()
	for i, t := range trips {
		var failed error
		if i == len(trips)-1 && t.err != nil {
			failed = err
		}
		if e.connection(t, failed) {
			return true
		}
		e.met(t)
	}
	return false
}

// served reports who serves the layer.
func (e *examination) served(layer image.Descriptor, host string) {
	from := "from the registry itself"
	if host != e.client.host {
		from = "redirected to " + host
	}
	e.tell(Finding{Hop: HopBlob, Host: host, Status: StatusOK, Text: fmt.Sprintf("%s, %d bytes, %s", layer.Digest, layer.Size, from),
		Details: map[string]string{"digest": layer.Digest.String(), "size": fmt.Sprint(layer.Size)}})
}

// ranges reports that there are none. A pull works without: a blob is one
// stream then, and starts over where that is cut.
func (e *examination) ranges(text string, err error) {
	e.tell(Finding{Hop: HopRanges, Status: StatusWarning, Text: text, Err: err})
}

// largest is the largest layer that the registry itself should have, of the
// manifest or the first fitting one of an index; an artifact's or image's
// config where it has no such layer.
func (e *examination) largest(ctx context.Context, content image.Content) (image.Descriptor, error) {
	for depth := 0; image.IsIndex(content.MediaType); depth++ {
		index, err := image.ParseIndex(content)
		if err != nil || len(index.Manifests) == 0 || depth == maxDepth {
			return image.Descriptor{}, err
		}
		if content, err = e.repository.Manifest(ctx, choose(index.Manifests).Digest.String()); err != nil {
			return image.Descriptor{}, err
		}
	}
	manifest, err := image.ParseManifest(content)
	if err != nil {
		return image.Descriptor{}, err
	}
	largest := manifest.Config
	for _, layer := range manifest.Layers {
		if len(layer.URLs) == 0 && layer.Size > largest.Size {
			largest = layer
		}
	}
	return largest, nil
}

// maxDepth is how many indexes within each other are opened.
const maxDepth = 3

// choose takes the image for this machine, else the first that is one: what is
// for an unknown platform is an attestation.
func choose(manifests []ocispec.Descriptor) ocispec.Descriptor {
	ours := image.DefaultPlatform()
	first := -1
	for i, d := range manifests {
		switch {
		case d.Platform != nil && d.Platform.OS == ours.OS && d.Platform.Architecture == ours.Architecture:
			return d
		case first < 0 && (d.Platform == nil || d.Platform.OS != "unknown"):
			first = i
		}
	}
	return manifests[max(first, 0)]
}
