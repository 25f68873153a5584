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
