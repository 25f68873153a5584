package davit_test

import (
	"context"
	"errors"
	"testing"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/registrytest"
)

// endingWriter ends a context with the first write.
type endingWriter struct {
	written int
	end     context.CancelFunc
}

func (w *endingWriter) Write(p []byte) (int, error) {
	w.end()
	w.written += len(p)
	return len(p), nil
}

// Whatever is streamed, it stops with the context.
func TestStreamEndsWithContext(t *testing.T) {
	server, err := registrytest.New(registrytest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	server.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 4<<20)}})
	for _, opts := range []davit.PullOptions{
		{Format: davit.Rootfs, Compress: davit.Gzip}, // the layer's own bytes
		{Format: davit.Rootfs, Compress: davit.None},
		{Layers: davit.None},
		{},
	} {
		ctx, end := context.WithCancel(context.Background())
		w := &endingWriter{end: end}
		opts.Platforms, opts.Stream = []string{"linux/amd64"}, w
		if _, err := davit.Pull(ctx, server.Host()+"/app:v1", opts); !errors.Is(err, context.Canceled) || w.written > 2<<20 {
			t.Errorf("%s, layers %q: %v, with %d bytes written", opts.Format, opts.Layers, err, w.written)
		}
	}
}
