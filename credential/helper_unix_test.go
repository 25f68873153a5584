//go:build unix

package credential

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What a helper has started ends with it.
func TestHelperEndsWithItsChildren(t *testing.T) {
	installHelpers(t, "parent", "child")
	socket := filepath.Join(t.TempDir(), "s")
	t.Setenv("DAVIT_TEST_SOCKET", socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	path := writeConfig(t, `{"credsStore":"parent"}`)
	go func() {
		_, err := DockerFile(path)(ctx, "example.com", "app")
		ended <- err
	}()
	child, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	_ = child.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := child.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the child lives on: %v", err)
	}
	_ = os.Remove(socket)
}
