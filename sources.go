package davit

import (
	"context"
	"fmt"
	"sync"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/mirror"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

// sources are what the images of one command are in: repositories, each with the
// mirrors of its registry, and stores on disk. Each is opened once.
type sources struct {
	session *registry.Session
	events  image.EventFunc
	bases   []string // paths of what has blobs that the stores may lack

	mu     sync.Mutex
	known  map[string]image.Source // by repository
	stores map[string]image.Store  // by path
	kept   map[image.Source]*documents
}

func newSources(opts registry.Options, events image.EventFunc) *sources {
	return &sources{
		session: registry.NewSession(opts), events: events,
		known: map[string]image.Source{}, stores: map[string]image.Store{}, kept: map[image.Source]*documents{},
	}
}

// close closes the stores, and gives up idle connections.
func (s *sources) close() {
	_ = s.session.Close()
	for _, store := range s.stores {
		_ = store.Close()
	}
}

// store opens what is at a path, joined with the bases.
func (s *sources) store(ctx context.Context, path string) (image.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	store, err := s.openOnce(ctx, path)
	if err != nil || len(s.bases) == 0 {
		return store, err
	}
	var bases []image.Source
	for _, base := range s.bases {
		opened, err := s.openOnce(ctx, base)
		if err != nil {
			return nil, err
		}
		bases = append(bases, opened)
	}
	return join(store, bases...), nil
}

// openOnce opens what is at a path. The caller holds the lock.
func (s *sources) openOnce(ctx context.Context, path string) (image.Store, error) {
	if known := s.stores[path]; known != nil {
		return known, nil
	}
	store, err := openStore(ctx, path, s.events)
	if err == nil {
		s.stores[path] = store
	}
	return store, err
}

// documents is a source of the command whose manifests are kept, also for another
// image that is there.
func (s *sources) documents(source image.Source) *documents {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[source] == nil {
		s.kept[source] = newDocuments(source)
	}
	return s.kept[source]
}

// open opens the repository of a reference. It sends nothing.
func (s *sources) open(r ref.Reference) (image.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Scheme + "//" + r.Name()
	if known := s.known[key]; known != nil {
		return known, nil
	}
	source, err := s.route(r)
	if err == nil {
		s.known[key] = source
	}
	return source, err
}

func (s *sources) route(r ref.Reference) (image.Source, error) {
	route, err := s.session.Route(r)
	if err != nil {
		return nil, err
	}
	for _, ignored := range route.Ignored {
		s.events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf("not followed: %s", ignored)})
	}
	origin, err := s.session.OpenEndpoint(route.Origin)
	if err != nil || len(route.Mirrors) == 0 {
		return origin, err
	}
	var mirrors []mirror.Mirror
	for _, at := range route.Mirrors {
		source, err := s.session.OpenEndpoint(at)
		if err != nil {
			return nil, fmt.Errorf("mirror of %s: %w", r.Registry, err)
		}
		mirrors = append(mirrors, mirror.Mirror{Source: source, Name: at.Registry, NoTags: at.NoTags, NoDigests: at.NoDigests})
	}
	return mirror.New(mirror.Mirror{Source: origin, Name: r.Registry}, mirrors, s.events), nil
}

// layerSources are where the layers that a source names are fetched from.
func layerSources(source image.Source) (image.Source, []image.Source) {
	if several, ok := source.(*mirror.Source); ok {
		return several.Layers()
	}
	return source, nil
}
