//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/davit-cli/davit/internal/registrytest"
)

// setup is a registry with one image, as the bench's own process serves it.
type setup struct {
	Layers    []int64       // sizes
	Trees     int           // in place of Layers: so many, of real files
	Dir       string        // where these stand
	Rate      int           // bytes a second of each connection, 0 for no limit
	TotalRate int           // bytes a second of all connections together, 0 for no limit
	Latency   time.Duration // before each answer
	Cut       int64         // bytes after which each body is cut, 0 for never
	Mirrors   int           // so many registries beside it have the same image
}

const repository, tag = "bench/image", "1"

// greeting is the first line that a serving process prints.
type greeting struct {
	Image   string
	Size    int64    // of all blobs
	Mirrors []string // their hosts
}

// serveSetup serves until in ends. It answers each line of in: "reset" with the
// counts before they are set to nothing, "await N" when it has served N bytes.
func serveSetup(encoded string, in io.Reader, out io.Writer) error {
	var o setup
	if err := json.Unmarshal([]byte(encoded), &o); err != nil {
		return fmt.Errorf("read the setup: %w", err)
	}
	options := registrytest.Options{
		Rate:       o.Rate,
		TotalRate:  o.TotalRate,
		SendBuffer: 64 << 10, // so that what was sent has arrived
		Latency:    o.Latency,
		Redirect:   &registrytest.Redirect{},
	}
	if o.Cut > 0 {
		options.Cut = &registrytest.Cut{After: o.Cut}
	}
	s, err := registrytest.New(options)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // it has no error to give
	size, err := o.push(s)
	if err != nil {
		return err
	}
	all := []*registrytest.Server{s}
	hello := greeting{Image: s.Host() + "/" + repository + ":" + tag, Size: size}
	options.Content = s.Content
	for range o.Mirrors {
		m, err := registrytest.New(options)
		if err != nil {
			return err
		}
		defer func() { _ = m.Close() }() // it has no error to give
		all, hello.Mirrors = append(all, m), append(hello.Mirrors, m.Host())
	}
	answers := json.NewEncoder(out)
	if err := answers.Encode(hello); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var bytes int64
		if _, err := fmt.Sscanf(lines.Text(), "await %d", &bytes); err == nil {
			err = s.Await(context.Background(), func(now registrytest.Stats) bool { return now.BlobBytes >= bytes })
			if err != nil {
				return err
			}
		}
		var stats registrytest.Stats
		for _, s := range all {
			now := s.Stats()
			stats.BlobBytes += now.BlobBytes
			stats.Requests += now.Requests
			if lines.Text() == "reset" {
				s.ResetRecords()
			}
		}
		if err := answers.Encode(stats); err != nil {
			return err
		}
	}
	return nil
}

// push makes the image, and returns the size of its blobs.
func (o setup) push(s *registrytest.Server) (size int64, err error) {
	if o.Trees > 0 {
		return pushTrees(s.Content, o.Dir, o.Trees)
	}
	var img registrytest.Image
	for i, size := range o.Layers {
		img.Layers = append(img.Layers, registrytest.RandomLayer(uint64(i), size))
	}
	return s.Push(repository, tag, img).Size(), nil
}

// server is a process that serves a setup.
type server struct {
	greeting
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

func startServer(ctx context.Context, o setup) (*server, error) {
	encoded, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: exec.CommandContext(ctx, self, "-serve", string(encoded))}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.answers = json.NewDecoder(out)
	if err := s.answers.Decode(&s.greeting); err != nil {
		return nil, errors.Join(fmt.Errorf("start the registry: %w", err), s.close())
	}
	return s, nil
}

// close ends the process.
func (s *server) close() error {
	return errors.Join(s.in.Close(), s.cmd.Wait())
}

// reset returns what was counted so far, and counts from nothing again.
func (s *server) reset() (registrytest.Stats, error) { return s.ask("reset") }

// await returns when the registry has served so many bytes.
func (s *server) await(bytes int64) error {
	_, err := s.ask(fmt.Sprintf("await %d", bytes))
	return err
}

func (s *server) ask(line string) (registrytest.Stats, error) {
	var stats registrytest.Stats
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		return stats, fmt.Errorf("ask the registry: %w", err)
	}
	if err := s.answers.Decode(&stats); err != nil {
		return stats, fmt.Errorf("ask the registry: %w", err)
	}
	return stats, nil
}
