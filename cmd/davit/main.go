// Command davit takes container images out of registries without Docker.
package main

import (
	"context"
	"os"

	"github.com/davit-cli/davit/internal/cli"
)

func main() {
	ctx, stop := cli.WithSignals(context.Background())
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
