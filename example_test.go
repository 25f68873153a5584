package davit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/demo"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/registry"
)

// exampleRegistry is a registry on loopback that holds davit's demo image.
func exampleRegistry() (host string, stop func()) {
	content, err := demo.Build()
	if err != nil {
		log.Fatal(err)
	}
	reg := memregistry.New()
	content.AddTo(reg)
	server := httptest.NewServer(reg)
	return server.Listener.Addr().String(), server.Close
}

// Pull an image into a file that docker load takes.
func ExamplePull() {
	host, stop := exampleRegistry()
	defer stop()
	dir, err := os.MkdirTemp("", "davit")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	result, err := davit.Pull(context.Background(), host+"/davit/demo:latest", davit.PullOptions{
		Platforms: []string{"linux/arm64"},
		Output:    filepath.Join(dir, "demo.tar"),
		Tag:       "demo:arm",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(filepath.Base(result.Path), result.Platform)
	// Output: demo.tar linux/arm64
}

// Pull an image into a pipe, here one that only counts.
func ExamplePull_stream() {
	host, stop := exampleRegistry()
	defer stop()

	r, w := io.Pipe()
	go func() {
		_, err := davit.Pull(context.Background(), host+"/davit/demo", davit.PullOptions{Stream: w})
		w.CloseWithError(err)
	}()
	n, err := io.Copy(io.Discard, r)
	fmt.Println(n > 12<<20, err)
	// Output: true <nil>
}

// Pull with what the command line finds by itself: the credentials that docker
// login and podman login have stored, and the certificates and mirrors of
// Docker's, Podman's and containerd's configuration; and with a mirror of one's
// own.
func ExamplePull_configured() {
	host, stop := exampleRegistry()
	defer stop()
	copied, stopCopy := exampleRegistry()
	defer stopCopy()

	config, err := hosts.Load(hosts.Environment{})
	if err != nil {
		log.Fatal(err)
	}
	mirror, err := hosts.ParseMirror(host + "=http://" + copied)
	if err != nil {
		log.Fatal(err)
	}
	if config, err = config.With(hosts.Flags{Mirrors: []hosts.Mirror{mirror}}); err != nil {
		log.Fatal(err)
	}
	result, err := davit.Pull(context.Background(), host+"/davit/demo:latest", davit.PullOptions{
		Stream: io.Discard,
		Registry: registry.Options{
			Credentials: credential.Stored(credential.StoredOptions{}),
			Hosts:       config.Host,
			Routes:      config.Route,
		},
	})
	fmt.Println(result.Reference == host+"/davit/demo:latest", err)
	// Output: true <nil>
}

// Pull several images into one OCI image layout.
func ExamplePullAll() {
	host, stop := exampleRegistry()
	defer stop()
	dir, err := os.MkdirTemp("", "davit")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	results, err := davit.PullAll(context.Background(), []string{host + "/davit/demo:latest"}, davit.PullOptions{
		Format:    davit.OCI,
		Platforms: []string{"all"},
		Output:    filepath.Join(dir, "layout"),
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Println(filepath.Base(r.Path), r.Platform, len(r.Manifests), r.Index == r.Digest)
	}
	// Output: layout linux/amd64 9 true
}

// Errors tell what a caller branches on; events tell of progress.
func ExamplePull_errors() {
	host, stop := exampleRegistry()
	defer stop()

	_, err := davit.Pull(context.Background(), host+"/davit/demo:no-such-tag", davit.PullOptions{
		Registry: registry.Options{PlainHTTP: true},
		Events:   func(image.Event) {},
	})
	fmt.Println(errors.Is(err, image.ErrNotFound))
	// Output: true
}
