//go:build linux

// Command bench measures davit side by side with crane, skopeo and regctl: the
// same images, from the same registry on this machine, in the same run. It
// prints a page of Markdown, reports, and judges nothing.
//
//	go run ./bench              # e2e/install puts the other tools there
//	go run ./bench -runs 1 -only "held to"
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func main() {
	serve := flag.String("serve", "", "serve this `SETUP` (used by the bench itself)")
	runs := flag.Int("runs", 3, "measure `N` times, and take the run of the median time")
	only := flag.String("only", "", "only scenarios with this `TEXT` in their title")
	flag.Parse()
	var err error
	if *serve != "" {
		err = serveSetup(*serve, os.Stdin, os.Stdout)
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		err = bench(ctx, os.Stdout, max(1, *runs), *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, w io.Writer, runs int, only string) (err error) {
	dir, err := os.MkdirTemp("", "davit-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	davit := filepath.Join(dir, "davit")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", davit, "github.com/davit-cli/davit/cmd/davit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build davit: %w", err)
	}
	tools := findTools(davit)
	if _, err := io.WriteString(w, head(ctx, tools, runs)); err != nil {
		return err
	}
	for _, s := range scenarios {
		if !strings.Contains(s.title, only) {
			continue
		}
		table, err := s.report(ctx, dir, tools, runs)
		if err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		if _, err := io.WriteString(w, table); err != nil {
			return err
		}
	}
	return nil
}

func head(ctx context.Context, tools []tool, runs int) string {
	var w strings.Builder
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // empty is told as empty
	fmt.Fprintf(&w, "# davit beside other tools\n\n`%s`, %s, Linux %s, %d cores, %s; the run of the median time of %d.\n\n",
		strings.TrimSpace("go run ./bench "+strings.Join(os.Args[1:], " ")), time.Now().UTC().Format(time.DateOnly),
		strings.TrimSpace(string(kernel)), runtime.NumCPU(), runtime.Version(), runs)
	for _, t := range tools {
		fmt.Fprintf(&w, "- %s %s: `%s`\n", t.name, t.version(ctx), strings.Join(t.pull("HOST/IMAGE", "FILE"), " "))
	}
	w.WriteString("\nThe registry is on this machine's loopback, in a process of its own, and redirects blobs to\n" +
		"another port. Memory is the peak of the resident set (`ru_maxrss`). Served is what the registry\n" +
		"sent of the image's blobs, as a multiple of their size.\n")
	return w.String()
}
