package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

func TestTags(t *testing.T) {
	// A link may be relative, absolute, or of the scheme before a proxy.
	for _, form := range []string{"", "http://HOST", "https://HOST"} {
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/v2/team/app/tags/list" {
				http.NotFound(w, req)
				return
			}
			link := strings.ReplaceAll(form, "HOST", req.Host) + "/v2/team/app/tags/list?n=2&last="
			switch req.URL.Query().Get("last") {
			case "":
				w.Header().Set("Link", "<"+link+`b>; rel="next"`)
				_, _ = io.WriteString(w, `{"name":"team/app","tags":["a","b"]}`)
			case "b":
				_, _ = io.WriteString(w, `{"tags":["c"]}`)
			}
		})
		var tags []string
		pages := 0
		err := open(t, server, Options{}).Tags(t.Context(), func(page []string) error {
			pages++
			tags = append(tags, page...)
			return nil
		})
		if err != nil || pages != 2 || !slices.Equal(tags, []string{"a", "b", "c"}) {
			t.Errorf("link %q: %q in %d pages, %v", form, tags, pages, err)
		}
	}
}

func TestTagsHostile(t *testing.T) {
	for _, test := range []struct{ name, link, body, says string }{
		{"another host", "<http://evil.example/v2/x?" + canary + ">", `{"tags":[]}`, "another host"},
		{"another port", "<//127.0.0.1:1/v2/x>", `{"tags":[]}`, "another host"},
		{"malformed link", "<http://%zz" + canary, `{"tags":[]}`, "malformed"},
		{"no JSON", "", `<html>`, "no list of tags"},
		{"other JSON", "", `{"tags":{"a":1}}`, "no list of tags"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", test.link)
				_, _ = io.WriteString(w, test.body)
			})
			err := open(t, server, Options{}).Tags(t.Context(), func([]string) error { return nil })
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), canary) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTagsThatAreNone(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"tags":["ok","\u001b[31mred","../x","","ok2"]}`)
	})
	var sent events
	var tags []string
	err := open(t, server, Options{Events: sent.add}).Tags(t.Context(), func(page []string) error {
		tags = append(tags, page...)
		return nil
	})
	if err != nil || !slices.Equal(tags, []string{"ok", "ok2"}) {
		t.Errorf("got %q, %v", tags, err)
	}
	if warnings := sent.of(image.EventWarning); len(warnings) != 1 || strings.Contains(warnings[0].Text, "\x1b") {
		t.Errorf("warnings %v", warnings)
	}
}

func TestTagsEnd(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Link", fmt.Sprintf("<%s>", req.URL.RequestURI()))
		_, _ = io.WriteString(w, `{"tags":null}`)
	})
	enough := errors.New("enough")
	if err := open(t, server, Options{}).Tags(t.Context(), func([]string) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestTagsOfNoRepository(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`)
	})
	err := open(t, server, Options{}).Tags(t.Context(), func([]string) error { return nil })
	if !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), "no such repository") {
		t.Errorf("got %v", err)
	}
}

// Many tags cost a request for each thousand, or one where the registry gives
// them in one page; the first are there before the next are asked for.
func TestManyTags(t *testing.T) {
	const many = 25_000
	s := registrytest.Start(t, registrytest.Options{})
	s.Push("team/app", "latest", registrytest.Image{})
	var want []string
	for i := range many {
		want = append(want, fmt.Sprintf("v%05d-with-a-longer-name", i))
	}
	s.PushTags("team/app", "latest", want...)
	want = append([]string{"latest"}, want...)
	for _, test := range []struct {
		name            string
		options         registrytest.Options
		requests, pages int
	}{
		{"pages", registrytest.Options{}, 26, 26},
		{"small pages", registrytest.Options{TagPage: 100}, 251, 251},
		{"no page size", registrytest.Options{MaxPageSize: 999}, 2, 1},
		{"a page size of its own", registrytest.Options{MaxPageSize: 500, TagPage: 500}, 52, 51},
	} {
		s.Configure(func(o *registrytest.Options) {
			o.MaxPageSize, o.TagPage = test.options.MaxPageSize, test.options.TagPage
		})
		s.ResetRecords()
		r := openAt(t, s, Options{PlainHTTP: true})
		var got []string
		pages := 0
		err := r.Tags(t.Context(), func(page []string) error {
			pages++
			if n := len(s.Requests()); n != pages+test.requests-test.pages {
				t.Errorf("%s: page %d came after %d requests", test.name, pages, n)
			}
			got = append(got, page...)
			return nil
		})
		if err != nil || !slices.Equal(got, want) || pages != test.pages || len(s.Requests()) != test.requests {
			t.Errorf("%s: %v; %d tags in %d pages, by %d requests", test.name, err, len(got), pages, len(s.Requests()))
		}
	}
}

// A refusal of the page size is no refusal of the tags, but it is asked only once.
func TestTagsPageSizeRefused(t *testing.T) {
	requests := 0
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		requests++
		w.WriteHeader(http.StatusBadRequest)
	})
	err := open(t, server, Options{PlainHTTP: true}).Tags(t.Context(), func([]string) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "400 Bad Request") || requests != 2 {
		t.Errorf("%v after %d requests", err, requests)
	}
}

func TestTagsHaveNoMorePages(t *testing.T) {
	pages := 0
	r, err := Open(referenceTo("registry.test"), Options{Transport: answering(func(*http.Request) *http.Response {
		pages++
		return &http.Response{
			StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(strings.NewReader(`{"tags":[]}`)),
			Header: http.Header{"Link": {fmt.Sprintf("<?last=%d>", pages)}},
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Tags(t.Context(), func([]string) error { return nil }); err == nil || !strings.Contains(err.Error(), "more than 10000 pages") || pages != maxPages {
		t.Errorf("%v after %d pages", err, pages)
	}
}
