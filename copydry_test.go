package davit_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/registrytest"
)

// A dry run tells of each image what the copy then sends and mounts: blobs go to
// a registry once, configs as well, and more images than a batch has are no
// other. It is the sum that is compared for configs, since whichever image is
// complete first sends those that several have.
func TestDryRunTellsWhatIsSent(t *testing.T) {
	from := registrytest.Start(t, registrytest.Options{})
	layer := registrytest.RandomLayer(1, 5000)
	var items []davit.CopyItem
	to, other := writable(t), writable(t)
	for i := range 150 {
		tag := fmt.Sprintf("v%d", i)
		from.Push("app", tag, registrytest.Image{Layers: []registrytest.Layer{layer, registrytest.RandomLayer(uint64(2+i/2), 1000)}})
		items = append(items, davit.CopyItem{Source: from.Host() + "/app:" + tag, Destination: fmt.Sprintf("%s/%d/app", to.Host(), i%3)})
	}
	for i := range 10 {
		items = append(items, davit.CopyItem{Source: from.Host() + "/app:v1", Destination: fmt.Sprintf("%s/again/%d", other.Host(), i)})
	}
	if _, err := davit.Copy(t.Context(), from.Host()+"/app:v149", to.Host()+"/2/app:there", davit.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	sum := func(results []davit.CopyResult) (sent, mounted int64) {
		for _, r := range results {
			sent, mounted = sent+r.Sent, mounted+r.Mounted
		}
		return sent, mounted
	}
	to.ResetRecords()
	planned, err := davit.CopyAll(t.Context(), items, davit.CopyOptions{DryRun: true})
	if err != nil || len(planned) != len(items) {
		t.Fatalf("%d results, %v", len(planned), err)
	}
	if n := to.Stats().Uploaded + other.Stats().Uploaded; n != 0 {
		t.Errorf("a dry run sent %d bytes", n)
	}
	copied, err := davit.CopyAll(t.Context(), items, davit.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plannedSent, plannedMounted := sum(planned)
	sent, mounted := sum(copied)
	if plannedSent != sent || plannedMounted != mounted || mounted == 0 || sent != to.Stats().Uploaded+other.Stats().Uploaded {
		t.Errorf("told %d sent and %d mounted, then %d and %d; %d were uploaded",
			plannedSent, plannedMounted, sent, mounted, to.Stats().Uploaded+other.Stats().Uploaded)
	}
	for i := range planned {
		if diff := cmp.Diff(copied[i].Destination, planned[i].Destination); diff != "" || planned[i].Size != copied[i].Size {
			t.Errorf("%s%d bytes, told %d", diff, copied[i].Size, planned[i].Size)
		}
	}
}

// What a registry gives no word of is a failure of a dry run, too.
func TestDryRunOfADestinationThatRefuses(t *testing.T) {
	from := registrytest.Start(t, registrytest.Options{})
	from.Push("app", "v1", registrytest.Image{})
	to := registrytest.Start(t, registrytest.Options{
		Uploads: &registrytest.Uploads{}, Answers: []registrytest.Answer{{Match: registrytest.Blobs, Status: 403}},
	})
	results, err := davit.Copy(t.Context(), from.Host()+"/app:v1", to.Host()+"/app", davit.CopyOptions{DryRun: true})
	if err == nil {
		t.Errorf("%+v", results)
	}
}
