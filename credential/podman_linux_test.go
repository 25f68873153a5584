package credential

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// After su, XDG_RUNTIME_DIR may be another user's: what is in there is not
// ours, and a public image needs none of it.
func TestPodmanPassesOverAClosedDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, dir := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "containers", "auth.json")
	if err := os.Mkdir(filepath.Dir(path), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"auths":{"quay.io":`+entry("u")+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	provider := podmanDefault(environ("XDG_RUNTIME_DIR", dir))
	if c, err := provider(t.Context(), "quay.io", "app"); err != nil || c.Source != path {
		t.Fatalf("our own: got %v, %v", c, err)
	}
	// A file that we may see but not read is configured and cannot be had.
	shut := func(path string, mode os.FileMode) {
		t.Helper()
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(path, before.Mode()) })
	}
	shut(path, 0)
	asNobody(func() {
		if c, err := provider(t.Context(), "quay.io", "app"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a closed file: got %v, %v", c, err)
		}
	})
	shut(dir, 0)
	asNobody(func() {
		if c, err := provider(t.Context(), "quay.io", "app"); err != nil || !c.Anonymous() {
			t.Errorf("a closed directory: got %v, %v", c, err)
		}
	})
}

// asNobody runs f on a thread that root's rights to files are taken from. The
// thread ends with it. Whoever is not root has none.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Geteuid() == 0 {
			runtime.LockOSThread()
			_ = unix.Setfsuid(65534)
		}
		f()
	}()
	<-done
}
