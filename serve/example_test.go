package serve_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/davit-cli/davit/internal/demo"
	"github.com/davit-cli/davit/serve"
)

// Serve an image until a context ends. davit.OpenStore opens what is on disk.
func ExampleNew() {
	content, err := demo.Build()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	handler, err := serve.New(ctx, []serve.From{{Store: content.Store(), Path: "demo.tar"}}, serve.Options{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	for _, img := range handler.Images() {
		fmt.Println("docker pull HOST:PORT/" + img.Reference())
	}
	stop() // here, before anybody comes
	fmt.Println(handler.Serve(ctx, listener, serve.ListenOptions{}))
	// Output:
	// docker pull HOST:PORT/davit/demo:latest
	// <nil>
}
