package image

import (
	"fmt"
	"strings"
)

// Tell says which platforms were taken of an image that Resolve found: as a
// note, or as a warning where it is not this machine's and nobody asked for it.
func (img Image) Tell(want Platforms, events EventFunc) {
	var names []string
	attestations := 0
	for _, m := range img.Manifests {
		switch {
		case m.Attestation:
			attestations++
		case m.IsImage():
			names = append(names, FormatPlatform(m.Platform))
		}
	}
	if len(names) == 0 {
		return
	}
	text := fmt.Sprintf("%s for %s", img.Label, strings.Join(names, ", "))
	host := DefaultPlatform()
	switch {
	case attestations > 0:
		text += fmt.Sprintf(", with %d attestations", attestations)
	case len(want.List) > 0 || want.All:
	case !fits(img.Manifests[0].Platform, Platform{OS: host.OS, Architecture: host.Architecture}):
		text = fmt.Sprintf("%s is there for %s only (this machine is %s)", img.Label, names[0], FormatPlatform(host))
		if img.Manifests[0].Platform.Architecture == "" {
			text = fmt.Sprintf("%s does not say which architecture it is for", img.Label)
		}
		events.Send(Event{Kind: EventWarning, Text: text})
		return
	case len(img.Indexes) > 0:
		text += " (this machine's architecture; choose another with --platform)"
	}
	events.Send(Event{Kind: EventNote, Text: text})
}
