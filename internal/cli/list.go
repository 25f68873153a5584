package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/davit-cli/davit/ref"
)

// maxList bounds a list of images: a wrong file is found out before it fills
// the memory.
const maxList = 4 << 20

// readList reads a list of images: one a line; empty lines and what follows a
// # at a line's beginning or behind a space are left out. The path - is stdin.
// An error tells the line.
func readList(ctx context.Context, path string, stdin io.Reader) ([]string, error) {
	data, err := readListBytes(ctx, path, stdin, maxList)
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	if len(data) > maxList {
		return nil, usagef("--from %s: it is longer than %d bytes: it is no list of images", path, maxList)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // as editors on Windows begin a file
	var names []string
	for i, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		for n, field := range fields {
			if strings.HasPrefix(field, "#") {
				fields = fields[:n]
				break
			}
		}
		switch {
		case len(fields) == 0:
			continue
		case len(fields) > 1:
			return nil, usagef("%s:%d: want one image a line", path, i+1)
		}
		if _, err := ref.Parse(fields[0]); err != nil {
			return nil, usagef("%s:%d: %w", path, i+1, err)
		}
		names = append(names, fields[0])
	}
	if len(names) == 0 {
		return nil, usagef("--from %s: there is no image in it", path)
	}
	return names, nil
}

// readListBytes reads a file of up to most bytes; one byte more of a longer one.
func readListBytes(ctx context.Context, path string, stdin io.Reader, most int64) ([]byte, error) {
	if path == stream {
		return waitFor(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(stdin, most+1)) })
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written through it
	return io.ReadAll(io.LimitReader(f, most+1))
}
