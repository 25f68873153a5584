package davit

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/transfer"
)

// attachments are what goes along with the images of a pull.
type attachments struct {
	mu sync.Mutex
	of map[calledAs][]image.Image
}

// calledAs is an image that is written, and what it is called there.
type calledAs struct{ label, name string }

func attachedTo(img image.Image) calledAs { return calledAs{img.Label, img.Name.String()} }

// refer finds what goes along with an image. root is what the image was before it
// was trimmed.
func (p *pull) refer(ctx context.Context, l *look, img image.Image, root digest.Digest) error {
	if !p.opts.Referrers {
		return nil
	}
	found, err := l.attached(ctx, img, root)
	if err != nil {
		return err
	}
	for i, r := range found {
		found[i], _ = image.WithoutBlobs(r, p.baseOf)
	}
	p.referrers.mu.Lock()
	defer p.referrers.mu.Unlock()
	if p.referrers.of == nil {
		p.referrers.of = map[calledAs][]image.Image{}
	}
	p.referrers.of[attachedTo(img)] = found
	return nil
}

// withReferrers are the images, and behind them what goes along, each once.
func (p *pull) withReferrers(images []image.Image) []image.Image {
	type kept struct {
		root digest.Digest
		name string
	}
	met := map[kept]bool{}
	all := slices.Clone(images)
	for _, img := range images {
		for _, r := range p.referrers.of[attachedTo(img)] {
			name := r.Name.WithDigest("").String()
			if r.Name.Tag == "" {
				name = "" // it is called nothing where it goes
			}
			if key := (kept{r.Entry().Digest, name}); !met[key] {
				met[key] = true
				all = append(all, r)
			}
		}
	}
	return all
}

// dropReferrers takes out of what goes along those that lack a blob which their
// source has not got, and what refers to them, with a warning. It says whether
// there were any, and none lacks a blob for another reason.
func (p *pull) dropReferrers(images []image.Image, failed []Failure, blobs *transfer.BlobsError) bool {
	for _, b := range blobs.Blobs {
		if !errors.Is(b.Err, image.ErrNotFound) {
			return false
		}
	}
	dropped := false
	lost := map[string]error{} // by label
	for _, f := range failed {
		lost[f.Reference] = f.Err
	}
	told := map[string]bool{}
	for _, img := range images {
		gone := map[digest.Digest]bool{}
		of := attachedTo(img)
		p.referrers.of[of] = slices.DeleteFunc(p.referrers.of[of], func(r image.Image) bool {
			err := lost[r.Label]
			if err == nil && !gone[r.Subject] {
				return false
			}
			for _, d := range partsOf(r) {
				gone[d] = true
			}
			if err != nil && !told[r.Label] {
				told[r.Label] = true
				p.warning("%s: a referrer is left out: %v", img.Label, err)
			}
			dropped = true
			return true
		})
	}
	return dropped
}

// withoutReferrers are the images that were asked for.
func withoutReferrers(images []image.Image) []image.Image {
	return slices.DeleteFunc(slices.Clone(images), func(img image.Image) bool { return img.Subject != "" })
}

// asReferrer is an image of a store as one that refers to another, as the store
// has it.
func asReferrer(img image.Image, stored image.Stored) image.Image {
	img.Subject = stored.Subject
	if stored.Name == "" {
		img.Name = img.Name.WithTag(stored.RefName)
	}
	return img
}
