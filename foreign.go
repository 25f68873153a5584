package davit

import (
	"github.com/docker/go-units"

	"github.com/davit-cli/davit/image"
)

// leaveOut leaves the image's foreign layers out, and says so.
func (p *pull) leaveOut(img image.Image) image.Image {
	img, foreign := image.WithoutForeign(img)
	if len(foreign) == 0 || p.opts.ManifestOnly {
		return img
	}
	var size int64
	for _, d := range foreign {
		size += d.Size
	}
	what := map[Format]string{
		Archive: "it loads only where they are already",
		Rootfs:  "what is in them is not in the file system",
		Files:   "what is in them is not in the file system",
	}[p.opts.Format]
	if what == "" {
		what = "the manifest names them still"
	}
	p.warning("%s: foreign layers are left out (%d, of %s): %s", img.Label, len(foreign), units.HumanSizeWithPrecision(float64(size), 3), what)
	return img
}
