package davit_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/registry"
)

var errStop = errors.New("stop")

func TestTags(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{TagPage: 2})
	server.Push("app", "v1", registrytest.Image{})
	server.PushTags("app", "v1", "v2", "v3")
	var pages [][]string
	err := davit.Tags(t.Context(), server.Host()+"/app:any", davit.LookOptions{}, func(page []string) error {
		pages = append(pages, page)
		return nil
	})
	if diff := cmp.Diff([][]string{{"v1", "v2"}, {"v3"}}, pages); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	before := len(server.Requests())
	err = davit.Tags(t.Context(), server.Host()+"/app", davit.LookOptions{}, func([]string) error { return errStop })
	if !errors.Is(err, errStop) || len(server.Requests()) != before+1 {
		t.Errorf("after fn's error: %v, %d requests, want 1", err, len(server.Requests())-before)
	}
	if err := davit.Tags(t.Context(), server.Host()+"/nosuch", davit.LookOptions{}, nil); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a repository that is not there: %v", err)
	}
}

// Of a store they are the tags of its images, each once.
func TestStoredTags(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{})
	for _, name := range []string{"a", "b"} {
		server.Push(name, "v1", registrytest.Image{})
		server.Push(name, name, registrytest.Image{})
	}
	var names []string
	for _, name := range []string{"/a:v1", "/b:v1", "/b:b"} {
		names = append(names, server.Host()+name)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if _, err := davit.PullAll(t.Context(), names, davit.PullOptions{Format: davit.OCI, Output: dir}); err != nil {
		t.Fatal(err)
	}
	var tags []string
	err := davit.Tags(t.Context(), dir, davit.LookOptions{}, func(page []string) error {
		tags = append(tags, page...)
		return nil
	})
	if diff := cmp.Diff([]string{"v1", "b"}, tags); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
}

func TestCatalog(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{CatalogPage: 1})
	server.Push("team/app", "v1", registrytest.Image{})
	server.Push("base", "v1", registrytest.Image{})
	for _, host := range []string{server.Host(), "http://" + server.Host(), "http://" + server.Host() + "/v2/"} {
		var names []string
		err := davit.Catalog(t.Context(), host, davit.LookOptions{}, func(page []string) error {
			names = append(names, page...)
			return nil
		})
		if got := strings.Join(names, " "); got != "base team/app" || err != nil {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	if err := davit.Catalog(t.Context(), server.Host(), davit.LookOptions{}, func([]string) error { return errStop }); !errors.Is(err, errStop) {
		t.Errorf("fn's error is %v", err)
	}
	server.Configure(func(o *registrytest.Options) { o.NoCatalog = true })
	if err := davit.Catalog(t.Context(), server.Host(), davit.LookOptions{}, nil); !errors.Is(err, registry.ErrNoCatalog) {
		t.Errorf("a registry without the list: %v", err)
	}
	if err := davit.Catalog(t.Context(), "a b", davit.LookOptions{}, nil); err == nil {
		t.Error("a host with a space is taken")
	}
}
