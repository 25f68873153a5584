//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// limit is how long one pull may take. A tool that hangs is ended then.
const limit = time.Minute

// scenario is one thing that all tools do.
type scenario struct {
	title string
	about string
	setup setup
	kill  bool // when half is served, and run again
	// rootfs is the image's file system as one tar, in place of an archive.
	rootfs bool
	// copy is a copy into another registry, in place of an archive.
	copy bool
}

var scenarios = []scenario{
	{
		title: "Each connection held to 20 MB/s",
		about: "440 MB in 3 layers.",
		setup: setup{Layers: []int64{285e6, 100e6, 55e6}, Rate: 20e6},
	},
	{
		title: "60 tiny layers, 50 ms latency",
		about: "The registry waits 50 ms before each answer.",
		setup: setup{Layers: slices.Repeat([]int64{20e3}, 60), Latency: 50 * time.Millisecond},
	},
	{
		title: "No limit",
		about: "449 MB in 3 layers.",
		setup: setup{Layers: []int64{290e6, 102e6, 57e6}},
	},
	{
		title: "Bodies cut after 2 MB",
		about: "240 MB in 3 layers; every body of a blob ends after 2 MB, and its connection with it.",
		setup: setup{Layers: []int64{150e6, 70e6, 20e6}, Cut: 2e6},
	},
	{
		title: "Killed and run again",
		about: "240 MB in 3 layers, each connection held to 50 MB/s; SIGKILL when the registry has served half, then the same command again. The times are the second run's.",
		setup: setup{Layers: []int64{150e6, 70e6, 20e6}, Rate: 50e6},
		kill:  true,
	},
	{
		title:  "The file system of ten layers",
		about:  "Debian and nine times Go's sources and programs, in ten layers of gzip, as one plain tar: `davit pull --quiet -f rootfs HOST/IMAGE -o FILE` and `crane export --insecure HOST/IMAGE FILE`. The registry does not limit it.",
		setup:  setup{Trees: 10},
		rootfs: true,
	},
	{
		title: "Mirrors held to 10 MB/s",
		about: "100 MB in 3 layers; the registry and each mirror are held to 10 MB/s, all connections together: `davit pull --quiet HOST/IMAGE -o FILE --mirror HOST…`.",
		setup: setup{Layers: []int64{60e6, 30e6, 10e6}, TotalRate: 10e6, Mirrors: 2},
	},
	{
		title: "Copy between registries, four layers",
		about: "4 layers of 64 MB; each connection to the registry that is read is held to 20 MB/s. " + copyAbout,
		setup: setup{Layers: slices.Repeat([]int64{64e6}, 4), Rate: 20e6},
		copy:  true,
	},
	{
		title: "Copy between registries, one large layer",
		about: "512 MB in one layer; each connection to the registry that is read is held to 20 MB/s. " + copyAbout,
		setup: setup{Layers: []int64{512e6}, Rate: 20e6},
		copy:  true,
	},
}

const copyAbout = "It goes to distribution's registry, which has nothing yet and is not limited: `davit copy --quiet SRC DST`, `crane copy --insecure SRC DST`, " +
	"`skopeo copy --all … docker://SRC docker://DST`, `regctl image copy … SRC DST`."

// measurement is what one pull took.
type measurement struct {
	wall, cpu time.Duration
	memory    int64 // bytes
	served    int64
	requests  int
	err       error
}

// report has all tools do the scenario and returns the table of what it took.
func (s scenario) report(ctx context.Context, dir string, tools []tool, runs int) (table string, err error) {
	if s.setup.Dir, err = os.MkdirTemp(dir, "layers-"); err != nil {
		return "", err
	}
	srv, err := startServer(ctx, s.setup)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, srv.close()) }()
	var w strings.Builder
	fmt.Fprintf(&w, "\n## %s\n\n%s\n\n| tool | time | as davit's | CPU | memory | served | requests | |\n|---|---|---|---|---|---|---|---|\n", s.title, s.about)
	if s.setup.Mirrors > 0 {
		tools = tools[0].withMirrors(srv.Mirrors)
	}
	var davit time.Duration
	for _, t := range tools {
		switch {
		case s.rootfs:
			t.args = t.rootfs
		case s.copy:
			t.args = t.copy
		}
		if t.args == nil {
			continue // it has no such command
		}
		if t.program == "" {
			fmt.Fprintf(&w, "| %s | – | – | – | – | – | – | not installed |\n", t.name)
			continue
		}
		var all []measurement
		for range runs {
			m, err := s.measure(ctx, dir, t, srv)
			if err != nil {
				return "", err
			}
			all = append(all, m)
			if m.err != nil {
				break
			}
		}
		slices.SortFunc(all, func(a, b measurement) int { return cmp.Compare(a.wall, b.wall) })
		m := all[len(all)/2]
		if i := slices.IndexFunc(all, func(m measurement) bool { return m.err != nil }); i >= 0 {
			m = all[i]
		}
		if davit == 0 { // it is the first
			davit = m.wall
		}
		ratio := "–"
		if m.err == nil {
			ratio = fmt.Sprintf("%.2f", m.wall.Seconds()/davit.Seconds())
		}
		fmt.Fprintf(&w, "| %s | %.2f s | %s | %.2f s | %.0f MiB | %.3f × | %d | %s |\n", t.name, m.wall.Seconds(), ratio, m.cpu.Seconds(), float64(m.memory)/(1<<20), float64(m.served)/float64(srv.Size), m.requests, outcome(m.err))
	}
	return w.String(), nil
}

// measure has a tool do the scenario once. The error is the bench's own; the
// tool's is in the measurement.
func (s scenario) measure(ctx context.Context, dir string, t tool, srv *server) (m measurement, err error) {
	home, err := os.MkdirTemp(dir, t.name+"-")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	to := filepath.Join(home, "image.tar")
	if s.copy {
		d, err := startDestination(ctx, home)
		if err != nil {
			return m, err
		}
		defer func() { err = errors.Join(err, d.close()) }()
		to = d.Image
	}
	if _, err := srv.reset(); err != nil {
		return m, err
	}
	if s.kill {
		first := t.command(ctx, home, srv.Image, to)
		if err := first.Start(); err != nil {
			return m, err
		}
		if err := srv.await(srv.Size / 2); err != nil {
			return m, err
		}
		_ = first.Process.Kill()
		_ = first.Wait() // killed
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := t.command(timed, home, srv.Image, to)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	begun := time.Now()
	runErr := cmd.Run()
	m.wall = time.Since(begun)
	if ctx.Err() != nil {
		return m, ctx.Err()
	}
	if timed.Err() != nil {
		runErr = fmt.Errorf("ended after %s", limit)
	} else if runErr != nil {
		runErr = fmt.Errorf("%w: %s", runErr, said.Bytes())
	}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.memory = usage.Maxrss * 1024
	}
	stats, err := srv.reset()
	m.served, m.requests = stats.BlobBytes, stats.Requests
	if s.copy && runErr == nil {
		runErr = sameImage(ctx, srv.Image, to)
	}
	m.err = runErr
	return m, err
}

// outcome is a table's cell.
func outcome(err error) string {
	if err == nil {
		return "done"
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "|", "/")), " ")
	if runes := []rune(text); len(runes) > 160 {
		text = string(runes[:70]) + " … " + string(runes[len(runes)-90:])
	}
	return "**fails**: " + text
}
