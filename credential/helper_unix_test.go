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

// One helper that hangs keeps nobody waiting but those who want its answer, and
// these only for as long as they like.
func TestHelperHangsAlone(t *testing.T) {
	installHelpers(t, "good", "child")
	socket := filepath.Join(t.TempDir(), "s")
	t.Setenv("DAVIT_TEST_SOCKET", socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	find := DockerFile(writeConfig(t, `{"credsStore":"good","credHelpers":{"slow.example":"child"}}`))
	slow, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := find(slow, "slow.example", "app")
		ended <- err
	}()
	if _, err := listener.Accept(); err != nil {
		t.Fatal(err)
	}
	patient, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	if c, err := find(patient, "example.com", "app"); err != nil || c.Password != canary {
		t.Errorf("another registry's: %v, %v", c, err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := find(gone, "slow.example", "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone: %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("who still waits: %v", err)
	default:
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
