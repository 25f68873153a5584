package davit

import (
	"fmt"

	"github.com/docker/go-units"

	"github.com/davit-cli/davit/image"
)

// leaveOutForeign leaves the image's foreign layers out, and warns of what that
// means for a format; for a registry that is "".
func leaveOutForeign(img image.Image, format Format, events image.EventFunc) image.Image {
	img, foreign := image.WithoutForeign(img)
	if len(foreign) == 0 {
		return img
	}
	what := map[Format]string{
		Archive: "it loads only where they are already",
		Rootfs:  "what is in them is not in the file system",
		Files:   "what is in them is not in the file system",
	}[format]
	if what == "" {
		what = "the manifest names them still"
	}
	events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s: foreign layers are left out (%d, of %s): %s",
		img.Label, len(foreign), units.HumanSizeWithPrecision(float64(sizeOf(foreign)), 3), what)})
	return img
}
