// Package mirror asks a registry and its mirrors for one repository's content,
// as if they were one source.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// patience is how long one of several is waited for before the next is asked.
const patience = 20 * time.Second

// Mirror is a source beside the origin, or the origin itself.
type Mirror struct {
	Source image.Source
	// Name is its host, for messages.
	Name string
	// NoTags and NoDigests tell what it is not to be asked for.
	NoTags, NoDigests bool
}

// Source is an origin with mirrors. What is asked by digest is asked of the
// mirrors first, in their order, and then of the origin: its bytes prove
// themselves. What a tag means is the origin's to say; mirrors are asked only
// where the origin fails for another reason than that the tag is not there, or
// does not answer; an image.EventWarning tells which of them did. So it is with
// lists, of tags and of referrers: most mirrors know no referrers.
//
// A mirror that fails, or sends wrong content, is not asked again, which an
// image.EventWarning tells.
type Source struct {
	origin  Mirror
	mirrors []Mirror
	events  image.EventFunc

	mu      sync.Mutex
	dropped map[image.Source]bool // mirrors; one host may have several
	stand   *Mirror               // the mirror that stands for the origin, which failed
}

var (
	_ image.Source         = (*Source)(nil)
	_ image.TagLister      = (*Source)(nil)
	_ image.Describer      = (*Source)(nil)
	_ image.BlobSizer      = (*Source)(nil)
	_ image.ReferrerLister = (*Source)(nil)
)

// New makes a Source of an origin and its mirrors, preferred first.
func New(origin Mirror, mirrors []Mirror, events image.EventFunc) *Source {
	return &Source{origin: origin, mirrors: mirrors, events: events, dropped: map[image.Source]bool{}}
}

// Manifest implements image.Source.
func (s *Source) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	return byEither(ctx, s, tagOrDigest, func(ctx context.Context, m Mirror) (image.Content, error) { return m.Source.Manifest(ctx, tagOrDigest) })
}

// Describe implements image.Describer. It asks as Manifest does; whom it asks
// for the manifest itself where that is no image.Describer.
func (s *Source) Describe(ctx context.Context, tagOrDigest string) (image.Descriptor, error) {
	return byEither(ctx, s, tagOrDigest, func(ctx context.Context, m Mirror) (image.Descriptor, error) {
		if describer, ok := m.Source.(image.Describer); ok {
			return describer.Describe(ctx, tagOrDigest)
		}
		content, err := m.Source.Manifest(ctx, tagOrDigest)
		return content.Descriptor, err
	})
}

// Referrers implements image.ReferrerLister. They are the origin's; mirrors are
// asked only where it fails, and only those that are asked for tags: nothing
// proves a list.
func (s *Source) Referrers(ctx context.Context, subject digest.Digest) ([]image.Descriptor, error) {
	return byTag(ctx, s, "the list of referrers", func(ctx context.Context, m Mirror) ([]image.Descriptor, error) {
		lister, ok := m.Source.(image.ReferrerLister)
		if !ok {
			return nil, fmt.Errorf("list referrers of %s at %s: %w", subject, m.Name, image.ErrNotFound)
		}
		return lister.Referrers(ctx, subject)
	})
}

// Blob implements image.Source.
func (s *Source) Blob(ctx context.Context, d image.Descriptor) ([]byte, error) {
	return byDigest(ctx, s, d.Digest, func(ctx context.Context, m Mirror) ([]byte, error) { return m.Source.Blob(ctx, d) })
}

// BlobSize implements image.BlobSizer.
func (s *Source) BlobSize(ctx context.Context, d digest.Digest) (int64, error) {
	return byDigest(ctx, s, d, func(ctx context.Context, m Mirror) (int64, error) {
		sizer, ok := m.Source.(image.BlobSizer)
		if !ok {
			return 0, fmt.Errorf("get size of blob %s from %s: %w", d, m.Name, image.ErrNotFound)
		}
		return sizer.BlobSize(ctx, d)
	})
}

// Tags implements image.TagLister. Where pages were given to fn already, no
// other source is asked.
func (s *Source) Tags(ctx context.Context, fn func(page []string) error) error {
	begun := false
	var stop error // fn's
	_, err := byTag(ctx, s, "the list of tags", func(ctx context.Context, m Mirror) (struct{}, error) {
		lister, ok := m.Source.(image.TagLister)
		if !ok {
			return struct{}{}, fmt.Errorf("list tags of %s: %w", m.Name, image.ErrNotFound)
		}
		err := lister.Tags(ctx, func(page []string) error {
			begun = true
			answers(ctx)
			stop = fn(page)
			return stop
		})
		if begun && err != nil {
			err = finalError{err}
		}
		return struct{}{}, err
	})
	if stop != nil {
		return stop
	}
	return err
}

// OpenRange implements image.Source, with the first of Layers' sources.
func (s *Source) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	source, _ := s.Layers()
	return source.OpenRange(ctx, blob, off, n)
}

// Layers are where layers are fetched from: mirrors, and the source that gives
// what none of them can. That is the origin, or the mirror that stood in for it.
func (s *Source) Layers() (source image.Source, mirrors []image.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.origin
	if s.stand != nil && !s.stand.NoDigests {
		last = *s.stand
	}
	for _, m := range s.mirrors {
		if !m.NoDigests && !s.dropped[m.Source] && m.Source != last.Source {
			mirrors = append(mirrors, m.Source)
		}
	}
	return last.Source, mirrors
}

// byEither asks byDigest or byTag.
func byEither[T any](ctx context.Context, s *Source, tagOrDigest string, ask func(context.Context, Mirror) (T, error)) (T, error) {
	if strings.Contains(tagOrDigest, ":") {
		return byDigest(ctx, s, digest.Digest(tagOrDigest), ask)
	}
	return byTag(ctx, s, "the tag "+tagOrDigest, ask)
}

// byDigest asks the mirrors and then the origin.
func byDigest[T any](ctx context.Context, s *Source, d digest.Digest, ask func(context.Context, Mirror) (T, error)) (T, error) {
	for _, m := range s.mirrors {
		if m.NoDigests || s.isDropped(m) {
			continue
		}
		got, err := bounded(ctx, m, ask)
		if err == nil || ctx.Err() != nil {
			return got, err
		}
		s.passOver(m, d.String(), err)
	}
	return ask(ctx, s.origin)
}

// byTag asks the origin and, where it fails, the mirrors.
func byTag[T any](ctx context.Context, s *Source, what string, ask func(context.Context, Mirror) (T, error)) (T, error) {
	mirrors := s.forTags()
	if len(mirrors) == 0 {
		return ask(ctx, s.origin)
	}
	var failed error // why the origin could not tell
	if !s.replaced() {
		got, err := bounded(ctx, s.origin, ask)
		if err == nil || ctx.Err() != nil || isFinal(err) || errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrVerification) {
			return got, err
		}
		failed = err
	}
	err := failed
	for _, m := range mirrors {
		got, mirrorErr := bounded(ctx, m, ask)
		switch {
		case mirrorErr == nil:
			s.replace(m, what, failed)
			return got, nil
		case ctx.Err() != nil, isFinal(mirrorErr):
			return got, mirrorErr
		case err == nil:
			err = mirrorErr
		default:
			err = fmt.Errorf("%w; mirror %s: %v", err, m.Name, mirrorErr) //nolint:errorlint // the first decides what kind of error it is
		}
	}
	var none T
	return none, err
}

// forTags are the mirrors that may be asked what a tag means.
func (s *Source) forTags() []Mirror {
	return slices.DeleteFunc(slices.Clone(s.mirrors), func(m Mirror) bool { return m.NoTags || s.isDropped(m) })
}

// finalError ends the search: the next source cannot take up where one broke off.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func isFinal(err error) bool {
	var final finalError
	return errors.As(err, &final)
}

// bounded asks with patience, which answers ends.
func bounded[T any](ctx context.Context, m Mirror, ask func(context.Context, Mirror) (T, error)) (T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience, func() { cancel(fmt.Errorf("%s gave no answer within %v", m.Name, patience)) })
	defer timer.Stop()
	return ask(context.WithValue(ctx, patienceKey{}, timer), m)
}

type patienceKey struct{}

// answers tells that whoever is asked with this context answers: a list of many
// pages takes its time.
func answers(ctx context.Context) {
	if timer, ok := ctx.Value(patienceKey{}).(*time.Timer); ok {
		timer.Stop()
	}
}

func (s *Source) isDropped(m Mirror) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped[m.Source]
}

// passOver notes that a mirror could not give something. One that merely has
// not got it is asked again for other things.
func (s *Source) passOver(m Mirror, what string, err error) {
	if errors.Is(err, image.ErrNotFound) {
		s.events.Send(image.Event{Kind: image.EventStep, Text: fmt.Sprintf("mirror %s has not got %s", m.Name, what)})
		return
	}
	s.mu.Lock()
	met := s.dropped[m.Source]
	s.dropped[m.Source] = true
	s.mu.Unlock()
	if !met {
		s.events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("mirror %s is not used: %v", m.Name, err)})
	}
}

// replaced tells whether a mirror stands for the origin.
func (s *Source) replaced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stand != nil
}

// replace lets a mirror stand for the origin, which has failed.
func (s *Source) replace(m Mirror, what string, failed error) {
	s.mu.Lock()
	first := s.stand == nil
	if first {
		s.stand = &m
	}
	s.mu.Unlock()
	if first {
		s.events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(
			"%s is the mirror %s's, since %s cannot give it: %v", what, m.Name, s.origin.Name, failed)})
	}
}
