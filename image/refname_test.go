package image

import (
	"slices"
	"strings"
	"testing"

	"github.com/davit-cli/davit/ref"
)

func TestRefNames(t *testing.T) {
	digest := "alpine@sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		names, taken, want []string
	}{
		{nil, nil, []string{}},
		{[]string{"alpine:3"}, nil, []string{"3"}},
		{[]string{digest}, nil, []string{""}},
		{[]string{digest, "b:3"}, nil, []string{"", "3"}},
		{[]string{"a:1", "b:2"}, nil, []string{"1", "2"}},
		{[]string{"a:1", "b:2", "c:1"}, nil, []string{"docker.io/library/a:1", "2", "docker.io/library/c:1"}},
		{[]string{"a:1", "b:1", "a:1"}, nil, []string{"docker.io/library/a:1", "docker.io/library/b:1", "docker.io/library/a:1"}},
		{[]string{"a:1", "a:1"}, nil, []string{"1", "1"}},
		{[]string{"a:1", "b:2"}, []string{"1", "x"}, []string{"docker.io/library/a:1", "2"}},
	} {
		var names []ref.Reference
		for _, s := range c.names {
			n, err := ref.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, n)
		}
		if got := RefNames(names, c.taken...); !slices.Equal(got, c.want) {
			t.Errorf("%q (taken: %q) are called %q, want %q", c.names, c.taken, got, c.want)
		}
		slices.Reverse(names)
		got := RefNames(names, c.taken...)
		slices.Reverse(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("in another order %q are called %q, want %q", c.names, got, c.want)
		}
	}
}
