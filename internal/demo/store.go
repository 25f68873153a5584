package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// store is the image as one that is read, in memory.
type store struct {
	index     image.Content
	documents map[digest.Digest]image.Content
	blobs     map[digest.Digest]image.Content
}

var (
	_ image.Store     = (*store)(nil)
	_ image.BlobSizer = (*store)(nil)
)

// Store is the image as a store that has it under Repository:Tag of Docker Hub.
// It reads the content's slices.
func (c Content) Store() image.Store {
	s := &store{index: c.Index, documents: map[digest.Digest]image.Content{c.Index.Digest: c.Index}, blobs: map[digest.Digest]image.Content{}}
	for _, m := range c.Manifests {
		s.documents[m.Digest] = m
	}
	for _, b := range c.Blobs {
		s.blobs[b.Digest] = b
	}
	return s
}

// Images is the one image.
func (s *store) Images() []image.Stored {
	return []image.Stored{{Descriptor: s.index.Descriptor, Name: "docker.io/" + Repository + ":" + Tag}}
}

// Manifest is part of image.Source.
func (s *store) Manifest(_ context.Context, tagOrDigest string) (image.Content, error) {
	c, ok := s.documents[digest.Digest(tagOrDigest)]
	if !ok {
		return image.Content{}, fmt.Errorf("read manifest %s: %w", tagOrDigest, image.ErrNotFound)
	}
	return c, nil
}

func (s *store) blob(d digest.Digest) (image.Content, error) {
	c, ok := s.blobs[d]
	if !ok {
		return image.Content{}, fmt.Errorf("open blob %s: %w", d, image.ErrNotFound)
	}
	return c, nil
}

// Blob is part of image.Source.
func (s *store) Blob(_ context.Context, d image.Descriptor) ([]byte, error) {
	c, err := s.blob(d.Digest)
	if err != nil {
		return nil, err
	}
	return c.Bytes, image.CheckBytes(d, c.Bytes)
}

// OpenRange is part of image.Source.
func (s *store) OpenRange(_ context.Context, d image.Descriptor, off, n int64) (*image.Range, error) {
	c, err := s.blob(d.Digest)
	if err != nil {
		return nil, err
	}
	part := io.NewSectionReader(bytes.NewReader(c.Bytes), off, min(n, c.Size-off))
	return &image.Range{Body: io.NopCloser(part), Start: off, Total: c.Size, Len: part.Size()}, nil
}

// BlobSize is part of image.BlobSizer.
func (s *store) BlobSize(_ context.Context, d digest.Digest) (int64, error) {
	c, err := s.blob(d)
	return c.Size, err
}

// Close does nothing.
func (s *store) Close() error { return nil }
