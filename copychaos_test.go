package davit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/internal/registrytest"
)

// ailTarget gives a registry that is pushed to one of the faults that pass, or
// that there is a way around.
func ailTarget(random *rand.Rand, s *registrytest.Server) string {
	faults := []struct {
		name  string
		fault registrytest.Uploads
	}{
		{"sound", registrytest.Uploads{}},
		{"cuts", registrytest.Uploads{Cut: &registrytest.UploadCut{After: 1000 + random.Int64N(100_000), Times: 3}}},
		{"cuts and forgets", registrytest.Uploads{
			Uploads: memregistry.Uploads{Forgets: true}, Cut: &registrytest.UploadCut{After: 1000 + random.Int64N(100_000), Times: 2}}},
		{"loses answers", registrytest.Uploads{Lose: &registrytest.UploadLoss{Times: 3}}},
		{"does not mount", registrytest.Uploads{Uploads: memregistry.Uploads{NoMount: true}}},
		{"takes no pieces", registrytest.Uploads{NoPatch: true}},
		{"is busy", registrytest.Uploads{}},
		{"has faults", registrytest.Uploads{}},
	}
	chosen := faults[random.IntN(len(faults))]
	s.Configure(func(o *registrytest.Options) {
		o.Uploads = &chosen.fault
		switch chosen.name {
		case "is busy":
			o.Busy = &registrytest.Busy{Times: 5, Match: func(*http.Request) bool { return true }}
		case "has faults":
			o.Answers = []registrytest.Answer{{Times: 3, Status: http.StatusBadGateway}}
		}
	})
	return chosen.name
}

// Images that share layers go from two registries to two others, whatever ails
// these: what is tagged is whole, and what the sources can give is tagged.
func TestCopyAllBetweenAilingRegistries(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			from := []*registrytest.Server{registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})}
			to := []*registrytest.Server{writable(t), writable(t)}
			var items []davit.CopyItem
			var digests, blobs []digest.Digest
			for i := range 6 {
				img := registrytest.Image{Annotations: map[string]string{"n": fmt.Sprint(i)}}
				for range random.IntN(4) {
					n := random.Int64N(5)
					img.Layers = append(img.Layers, registrytest.RandomLayer(uint64(n), 1000+n*60_000))
				}
				x := from[i%2].PushIndex(fmt.Sprint("app", i), "v1", registrytest.Index{Images: []registrytest.Image{img, {Platform: image.Platform{OS: "linux", Architecture: "arm64"}, Layers: img.Layers}}})
				for _, layer := range x.Images[0].Layers {
					blobs = append(blobs, layer.Digest)
				}
				for j := range to {
					items = append(items, davit.CopyItem{Source: fmt.Sprintf("%s/app%d:v1", from[i%2].Host(), i), Destination: fmt.Sprintf("%s/app%d", to[j].Host(), i/2)})
					items[len(items)-1].Destination += fmt.Sprint(":", i)
					digests = append(digests, x.Index.Digest)
				}
			}
			said := fmt.Sprintf("sources: %s, %s; destinations: %s, %s",
				ail(random, from[0], blobs), ail(random, from[1], blobs), ailTarget(random, to[0]), ailTarget(random, to[1]))
			keepGoing := random.IntN(4) > 0
			sources := !slices.ContainsFunc(from, func(s *registrytest.Server) bool { return !gives(s) })
			transfer := quickly
			transfer.Retries, transfer.Stall = 8, 100*time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			results, err := davit.CopyAll(ctx, items, davit.CopyOptions{KeepGoing: keepGoing, Transfer: transfer})
			if ctx.Err() != nil || sources && err != nil {
				t.Errorf("%s: %v", said, err)
			}
			var failed *davit.CopyError
			if err != nil && (!errors.As(err, &failed) || keepGoing && len(results)+len(failed.Failures) != len(items)) {
				t.Errorf("%s: %d of %d are copied: %v", said, len(results), len(items), err)
			}
			if err == nil && len(results) != len(items) {
				t.Errorf("%s: %d of %d are copied", said, len(results), len(items))
			}
			copied := 0
			for i, item := range items {
				if d := tagged(to[i%2], fmt.Sprint("app", i/4), fmt.Sprint(i/2)); d == digests[i] {
					copied++
				} else if d != "" {
					t.Errorf("%s: %s is %s, want %s", said, item.Destination, d, digests[i])
				}
			}
			if copied != len(results) {
				t.Errorf("%s: %d are copied, %d results", said, copied, len(results))
			}
			for _, s := range to {
				s.Configure(func(o *registrytest.Options) { *o = registrytest.Options{} })
			}
			for _, r := range results {
				if _, err := davit.Pull(t.Context(), r.Destination, davit.PullOptions{Platforms: []string{"all"}, Output: t.TempDir() + "/x.tar"}); err != nil {
					t.Errorf("%s: %v", said, err)
				}
			}
		})
	}
}

// gives says whether a server gives its blobs as they are, if need be after tries.
func gives(s *registrytest.Server) bool {
	lies := false
	s.Configure(func(o *registrytest.Options) { lies = len(o.Corrupt) > 0 || len(o.Answers) > 0 })
	return !lies
}
