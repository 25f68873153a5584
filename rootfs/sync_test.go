package rootfs

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/davit-cli/davit/image"
)

// Unpack ends with the sync, of a directory that its owner may not even read.
func TestUnpackSyncs(t *testing.T) {
	tree := merged(t, layersOf(t, []entry{
		file("./a", big), dir(".").with(mode(0o300)),
	}), Options{})
	for _, noSync := range []bool{false, true} {
		var told []string
		err := tree.Unpack(context.Background(), emptyDir(t), UnpackOptions{NoSync: noSync, NoOwner: true, Events: func(e image.Event) {
			if e.Kind == image.EventStep || e.Kind == image.EventStage && e.Have == e.Bytes {
				told = append(told, e.Text)
			}
		}})
		if err != nil {
			t.Errorf("no sync %v: %v", noSync, err)
		}
		want := []string{"wait until all files are on the disk", "write files"}
		if noSync || !canSync {
			want = want[1:]
		}
		if !slices.Equal(told, want) {
			t.Errorf("no sync %v: %q, want %q", noSync, told, want)
		}
	}
}

// That the disk cannot be synced is an error.
func TestSyncFails(t *testing.T) {
	d, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := syncAll(d); err != nil {
		t.Error(err)
	}
	d.Close()
	if err := syncAll(d); canSync && (err == nil || !strings.Contains(err.Error(), "sync")) {
		t.Errorf("%v, of a closed directory", err)
	}
}
