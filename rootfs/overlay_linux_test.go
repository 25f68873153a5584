package rootfs

import (
	"fmt"
	"testing"
)

// So it is of layers as builds make them.
func TestOverlayIsMergeOfBuilds(t *testing.T) {
	for seed := range seeds(5, 20) {
		layers := randomLayers(t, seed)
		compareView(t, fmt.Sprint("seed ", seed), layers, overlaid(t, layers))
	}
}
