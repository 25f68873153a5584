package davit_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/synclist"
)

// exampleDestination is an empty registry on loopback that takes pushes.
func exampleDestination() (host string, stop func()) {
	reg := memregistry.New()
	reg.AcceptPushes(memregistry.Uploads{})
	server := httptest.NewServer(reg)
	return server.Listener.Addr().String(), server.Close
}

// Copy an image of all platforms from one registry to another.
func ExampleCopy() {
	from, stop := exampleRegistry()
	defer stop()
	to, stop := exampleDestination()
	defer stop()

	copied, err := davit.Copy(context.Background(), from+"/davit/demo:latest", to+"/mirror/demo:1", davit.CopyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	again, err := davit.Copy(context.Background(), from+"/davit/demo:latest", to+"/mirror/demo:1", davit.CopyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(copied.Sent == copied.Size, again.Sent, again.Digest == copied.Digest)
	// Output: true 0 true
}

// Copy what a list names and is not there yet.
func ExampleSync() {
	from, stop := exampleRegistry()
	defer stop()
	to, stop := exampleDestination()
	defer stop()

	list, err := synclist.Parse("images.yaml", fmt.Appendf(nil, `
to: %s/mirror
images:
  - image: %s/davit/demo
    tags: ["*"]
`, to, from))
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		results, err := davit.Sync(context.Background(), list, davit.CopyOptions{})
		if err != nil {
			log.Fatal(err)
		}
		for _, r := range results {
			fmt.Println(r.Destination[len(to):], r.Same)
		}
	}
	// Output:
	// /mirror/davit/demo:latest false
	// /mirror/davit/demo:latest true
}
