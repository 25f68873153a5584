package davit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// ail gives a server one of the faults that pass, or that others make up for.
func ail(random *rand.Rand, s *registrytest.Server, blobs []digest.Digest) string {
	faults := []struct {
		name  string
		fault func(o *registrytest.Options)
	}{
		{"sound", func(*registrytest.Options) {}},
		{"lies", func(o *registrytest.Options) {
			o.Corrupt = map[digest.Digest]*registrytest.Corrupt{}
			for _, d := range blobs {
				o.Corrupt[d] = &registrytest.Corrupt{Flip: []int64{random.Int64N(200_000)}}
			}
		}},
		{"cuts", func(o *registrytest.Options) { o.Cut = &registrytest.Cut{After: 50_000 + random.Int64N(500_000)} }},
		{"lacks the blobs", func(o *registrytest.Options) {
			o.Answers = []registrytest.Answer{{Match: registrytest.Blobs, Status: http.StatusNotFound}}
		}},
		{"refuses the blobs", func(o *registrytest.Options) {
			o.Answers = []registrytest.Answer{{Match: registrytest.Blobs, Status: http.StatusForbidden}}
		}},
		{"is down", func(o *registrytest.Options) { o.Answers = []registrytest.Answer{{Status: http.StatusBadGateway}} }},
		{"ignores ranges", func(o *registrytest.Options) { o.Ranges = registrytest.RangesIgnored }},
		{"refuses ranges", func(o *registrytest.Options) { o.Ranges = registrytest.RangesUnsatisfiable }},
		{"stalls", func(o *registrytest.Options) { o.Stall = &registrytest.Stall{Times: 3, After: 10_000} }},
		{"is busy", func(o *registrytest.Options) { o.Busy = &registrytest.Busy{Times: 4} }},
	}
	chosen := faults[random.IntN(len(faults))]
	s.Configure(chosen.fault)
	return chosen.name
}

// Two images that share layers come from two registries, each with mirrors of
// its own. Whatever the mirrors do, the output is as it is without them; and
// where one registry cannot give its blobs, the other's image is whole.
func TestPullAllThroughAilingMirrors(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 4))
			shared := registrytest.RandomLayer(1, 2<<20)
			var origins []*registrytest.Server
			var references []string
			mirrors := map[string][]hosts.Endpoint{}
			var blobs []digest.Digest
			var ailing []func()
			for i := range 2 {
				origin := registrytest.Start(t, registrytest.Options{})
				origins = append(origins, origin)
				pushed := origin.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{shared, registrytest.RandomLayer(uint64(2+i), 3<<20)}})
				for _, l := range pushed.Layers {
					blobs = append(blobs, l.Digest)
				}
				references = append(references, origin.Host()+"/app:v1")
				for range 1 + random.IntN(3) {
					m := registrytest.Start(t, registrytest.Options{Content: origin.Content})
					mirrors[origin.Host()] = append(mirrors[origin.Host()], hosts.Endpoint{Registry: m.Host(), Repository: "app"})
					ailing = append(ailing, func() { t.Logf("a mirror of %s %s", origin.Host(), ail(random, m, blobs)) })
				}
			}
			for _, f := range ailing {
				f()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			dir := t.TempDir()
			pull := func(name string, opts davit.PullOptions) ([]byte, error) {
				opts.Output, opts.Platforms, opts.Registry.Retries = filepath.Join(dir, name), []string{"linux/amd64"}, -1
				opts.Transfer.Backoff, opts.Transfer.Stall = time.Millisecond, 100*time.Millisecond
				if _, err := davit.PullAll(ctx, references, opts); err != nil {
					return nil, err
				}
				return os.ReadFile(opts.Output)
			}
			want, err := pull("without.tar", davit.PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var through davit.PullOptions
			through.Registry.Routes = func(registry, _ string) (hosts.Route, error) {
				return hosts.Route{Mirrors: mirrors[registry]}, nil
			}
			if got, err := pull("through.tar", through); err != nil || !bytes.Equal(got, want) {
				t.Errorf("through mirrors: %v, as without %v", err, bytes.Equal(got, want))
			}

			bad := random.IntN(2)
			origins[bad].Configure(func(o *registrytest.Options) {
				o.Answers = []registrytest.Answer{{Match: registrytest.Blobs, Status: http.StatusNotFound}}
			})
			through.KeepGoing = true
			_, err = pull("lacking.tar", through)
			var failed *davit.PullError
			switch {
			case err == nil: // its mirrors have all
			case !errors.As(err, &failed), len(failed.Failures) != 1, failed.Failures[0].Reference != references[bad], failed.Written != 1:
				t.Errorf("with a registry that lacks its blobs: %v", err)
			case !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrUnauthorized) && !errors.Is(err, image.ErrVerification):
				t.Errorf("with a registry that lacks its blobs: %v, of no kind", err)
			}
		})
	}
}
