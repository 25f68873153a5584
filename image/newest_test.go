package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSortTags(t *testing.T) {
	want := strings.Fields("latest nightly 20231231 20240131 v0.9 1.0.0-alpha 1.0.0-rc.1 1.0.0-rc.2 1.0 v1.0.0 1.0.0 1.2.0 1.10.0 2.0.0-beta")
	got := strings.Fields("1.10.0 v1.0.0 nightly 1.0.0-rc.2 2.0.0-beta 20240131 1.0 1.0.0-alpha latest 1.2.0 1.0.0 20231231 1.0.0-rc.1 v0.9")
	SortTags(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	SortTags(nil)
}

func TestNewest(t *testing.T) {
	for _, test := range []struct {
		tags string
		pre  bool
		want string // "" for none
	}{
		{"1.9.0 1.10.0 2.0.0-rc1 latest", false, "1.10.0"},
		{"1.9.0 1.10.0 2.0.0-rc1 latest", true, "2.0.0-rc1"},
		{"1.0.0-rc1 1.0.0", true, "1.0.0"},
		{"1.0.0-rc1", false, ""},
		{"1.2 1.2.0 v1.2.0", false, "1.2.0"},
		{"20240131 1.0.0", false, "1.0.0"},
		{"20240131 nightly", false, "20240131"},
		{"20240131 1.0.0-rc1", true, "1.0.0-rc1"},
		{"9.9.9\x1b[31m 1.0.0", false, "1.0.0"}, // no tag
		{"latest", true, ""},
		{"", false, ""},
	} {
		n := Newest{PreReleases: test.pre}
		for _, tag := range strings.Fields(test.tags) {
			n.Add(tag)
		}
		got, err := n.Tag()
		if got != test.want || (test.want == "") != errors.Is(err, ErrNotFound) {
			t.Errorf("%q, pre-releases %v: %q, %v, want %q", test.tags, test.pre, got, err, test.want)
		}
	}
}

func TestNewestListsTags(t *testing.T) {
	var n Newest
	for i := range 25 {
		n.Add("nightly-" + string(rune('a'+i)))
	}
	_, err := n.Tag()
	if err == nil || !strings.Contains(err.Error(), "no tag is a release; write one of: nightly-a, nightly-b,") || !strings.HasSuffix(err.Error(), "nightly-t and 5 more") {
		t.Errorf("the error is %v", err)
	}
}
