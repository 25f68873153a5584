package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

const (
	kills = 20
	// slack is what may be lost of each open connection at each kill: what
	// stood in the sockets' buffers.
	slack = 256 << 10
	// sendBuffer keeps the bytes that a registry has served close to those
	// that have arrived.
	sendBuffer = 64 << 10
)

// fat is an image of 240 MB in three layers of unlike size.
var fat = registrytest.Image{Layers: []registrytest.Layer{
	random(1, 150_000_000), random(2, 70_000_000), random(3, 20_000_000),
}}

func random(seed uint64, size int64) registrytest.Layer {
	l := registrytest.RandomLayer(seed, size)
	l.Compression = registrytest.None
	return l
}

// TestKilled kills davit at random moments, runs it again each time, and checks
// what it has written in the end, and what it fetched for that.
func TestKilled(t *testing.T) {
	enabled(t)
	dice := newDice(t)

	// At this rate a run takes some seconds, with sixteen connections.
	s := registrytest.Start(t, registrytest.Options{Rate: 4_000_000, SendBuffer: sendBuffer})
	size := s.Push("team/fat", "1", fat).Size()
	name := s.Host() + "/team/fat:1"
	dir := workDir(t)
	undisturbed, killed := filepath.Join(dir, "undisturbed.tar"), filepath.Join(dir, "killed.tar")
	run(t, davitCommand(t, "pull", "--quiet", name, "--output", undisturbed))
	t.Logf("undisturbed: %s", served(s.Stats().BlobBytes, size))
	s.ResetRecords()

	// The moments are told by the bytes served so far, in all runs together.
	var moments []int64
	for range kills {
		moments = append(moments, dice.Int64N(size))
	}
	slices.Sort(moments)
	lost := int64(0)
	for i, moment := range moments {
		open := killAt(t, s, moment, "pull", "--quiet", name, "--output", killed)
		lost += int64(open) * slack
		if _, err := os.Stat(killed); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("after kill %d at %d bytes there is an archive: %v", i+1, moment, err)
		}
	}
	result := pullJSON(t, name, killed)

	total := s.Stats().BlobBytes
	most := size*11/10 + lost
	t.Logf("killed %d times: %s; allowed %s; the last run fetched %d MB", kills, served(total, size), served(most, size), result.Fetched/1e6)
	if total > most {
		t.Errorf("the registry served %d bytes, allowed are %d", total, most)
	}
	if got, want := sumOf(t, killed), sumOf(t, undisturbed); got != want {
		t.Errorf("the archive is %s, the undisturbed one %s", got, want)
	}
	if _, err := os.Stat(killed + ".davit-part"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the partial is still there: %v", err)
	}
}

// newDice are other ones each time, and can be had again.
func newDice(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("DAVIT_E2E_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("DAVIT_E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// killAt runs davit and kills it when the registry has served so many bytes,
// or, where it has already, when davit has made its first request. It returns
// how many connections were open then.
func killAt(t *testing.T, s *registrytest.Server, moment int64, args ...string) (open int) {
	t.Helper()
	before := s.Stats().Requests
	killWhen(t, func(ctx context.Context) error {
		err := s.Await(ctx, func(now registrytest.Stats) bool {
			return now.Requests > before && now.BlobBytes >= moment
		})
		open = s.Stats().Open
		return err
	}, args...)
	if err := s.Await(t.Context(), func(now registrytest.Stats) bool { return now.Open == 0 }); err != nil {
		t.Fatal(err)
	}
	return open
}

// killWhen runs davit and kills it when reached returns, whose context ends when
// davit does by itself: then the test fails.
func killWhen(t *testing.T, reached func(context.Context) error, args ...string) {
	t.Helper()
	cmd := davitCommand(t, args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		cancel()
	}()
	early := reached(ctx)
	_ = cmd.Process.Kill() // it may have ended; seen below
	err := <-ended
	if early != nil || cmd.ProcessState.Exited() {
		t.Fatalf("davit ended before it was killed: %v\n%s", err, complaints.String())
	}
}

// TestCut pulls over connections that all break after 2 MB.
func TestCut(t *testing.T) {
	enabled(t)
	for _, cut := range []struct {
		name string
		registrytest.Cut
	}{
		{"each connection", registrytest.Cut{After: 2_000_000, PerConnection: true}},
		{"each body", registrytest.Cut{After: 2_000_000}},
	} {
		t.Run(cut.name, func(t *testing.T) {
			s := registrytest.Start(t, registrytest.Options{SendBuffer: sendBuffer, Cut: &cut.Cut})
			pushed := s.Push("team/fat", "1", fat)
			path := filepath.Join(workDir(t), "cut.tar")
			result := pullJSON(t, s.Host()+"/team/fat:1", path)
			stats := s.Stats()
			t.Logf("%s over %d connections, %d of them cut", served(stats.BlobBytes, pushed.Size()), stats.Accepted, stats.Cuts)
			if most := pushed.Size() * 105 / 100; stats.BlobBytes > most {
				t.Errorf("the registry served %d bytes, allowed are %d", stats.BlobBytes, most)
			}
			if result.ImageID != pushed.Config.Digest {
				t.Errorf("the image's ID is %s, want %s", result.ImageID, pushed.Config.Digest)
			}
			if info, err := os.Stat(path); err != nil || info.Size() != result.Size {
				t.Errorf("the archive has not the %d bytes of the result: %v", result.Size, err)
			}
			if cut.PerConnection && stats.Cuts == 0 {
				t.Error("no connection was cut")
			}
		})
	}
}

// pullResult is what davit pull --json prints, as far as the tests need it.
type pullResult struct {
	ImageID digest.Digest `json:"image_id"`
	Size    int64         `json:"size"`
	Fetched int64         `json:"fetched"`
}

func pullJSON(t testing.TB, name, path string) pullResult {
	t.Helper()
	printed := run(t, davitCommand(t, "pull", "--quiet", "--json", name, "--output", path))
	var r pullResult
	if err := json.Unmarshal([]byte(printed), &r); err != nil {
		t.Fatalf("davit pull --json printed %q: %v", printed, err)
	}
	return r
}

// served says how much of an image was served.
func served(n, size int64) string {
	return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB, " +
		strconv.FormatFloat(float64(n)/float64(size), 'f', 4, 64) + " of the image"
}

func sumOf(t testing.TB, path string) digest.Digest {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it is only read
	d, err := digest.FromReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
