package synclist

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// tagsOf is the selection of an image's fields in davit's schema.
func tagsOf(t *testing.T, fields string) Selection {
	t.Helper()
	return parse(t, "images: [{image: alpine, "+fields+"}]").Entries[0].Tags
}

func TestSelect(t *testing.T) {
	all := []string{
		"latest", "edge", "3", "3.9", "3.9.6", "3.20", "3.20.1", "v3.20.1", "3.21.0-rc1", "3.21.0", "4.0.0-beta", "20240131",
		"3.20-slim", "sha256-" + strings.Repeat("ab", 32), "bad tag", "-x",
	}
	for _, test := range []struct{ fields, want string }{
		{"tags: '*'", "edge latest 20240131 3 3.9 3.9.6 3.20-slim 3.20 v3.20.1 3.20.1 3.21.0-rc1 3.21.0 4.0.0-beta"},
		{"tags: ['3.2?']", "3.20"},
		{"tags: ['3.2*', edge]", "edge 3.20-slim 3.20 3.20.1 3.21.0-rc1 3.21.0"},
		{"tags: [edge, nowhere]", "edge nowhere"},
		{"tags: [edge, edge]", "edge"},
		{"tags: ['e*', edge]", "edge"},
		{"tags: ['3*'], exclude: ['*-*', 'v*', '3.9*']", "3 3.20 3.20.1 3.21.0"},
		{"tags: [edge, latest], exclude: [edge]", "latest"},
		{"exclude: ['[0-9v]*', sha256-*]", "edge latest"},
		{"semver: '>=3.20 <4'", "3.20 v3.20.1 3.20.1 3.21.0"},
		{"semver: '>=3.20-0 <4'", "3.20-slim 3.20 v3.20.1 3.20.1 3.21.0-rc1 3.21.0 4.0.0-beta"},
		{"semver: '>=3.20-0 <4-0'", "3.20-slim 3.20 v3.20.1 3.20.1 3.21.0-rc1 3.21.0"},
		{"semver: '~3.9 || 3.21.x'", "3.9 3.9.6 3.21.0"},
		{"semver: '>=3.21'", "3.21.0"},
		{"semver: '>=20240101'", "20240131"},
		{"semver: '>=3.20', tags: ['v*']", "v3.20.1"},
		{"semver: '>=3.20', tags: [edge]", "edge 3.20 v3.20.1 3.20.1 3.21.0"},
		{"newest: 2", "3.20.1 3.21.0"},
		{"newest: 100", "20240131 3 3.9 3.9.6 3.20 v3.20.1 3.20.1 3.21.0"},
		{"newest: 2, tags: [edge]", "edge 3.20.1 3.21.0"},
		{"newest: 1, tags: ['*-slim']", "3.20-slim"},
		{"newest: 1, semver: '<3.20'", "3.9.6"},
		{"newest: 1, exclude: ['3.21*']", "3.20.1"},
		{"newest: 1, tags: ['3.2*', latest], exclude: ['3.21*']", "latest 3.20.1"},
		{"tags: ['sha256:" + strings.Repeat("cd", 32) + "', edge, 'sha256:" + strings.Repeat("ab", 32) + "']",
			"edge sha256:" + strings.Repeat("ab", 32) + " sha256:" + strings.Repeat("cd", 32)},
		{"tags: [sha256-" + strings.Repeat("ab", 32) + "]", "sha256-" + strings.Repeat("ab", 32)},
	} {
		s := tagsOf(t, test.fields)
		if got := strings.Join(s.Select(all), " "); got != test.want {
			t.Errorf("{%s}:\n got %s\nwant %s", test.fields, got, test.want)
		}
	}
}

func TestNeedsTags(t *testing.T) {
	for _, test := range []struct {
		fields string
		want   bool
	}{
		{"to: r.lan/x", false},
		{"tags: [edge, '3.20']", false},
		{"tags: [edge], exclude: []", false},
		{"tags: ['e*']", true},
		{"tags: [edge], newest: 1", true},
		{"semver: '>1'", true},
		{"exclude: ['a*']", true},
	} {
		if got := tagsOf(t, test.fields).NeedsTags(); got != test.want {
			t.Errorf("{%s}: %v", test.fields, got)
		}
	}
	if s := (Selection{}); s.NeedsTags() || !s.None() || s.Select([]string{"a"}) != nil {
		t.Error("the zero value chooses")
	}
}

// Whatever the order of the tags, the selection is the same; it is a part of
// them, each once; and more tags never lose one that is newer.
func TestSelectProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"1", "2", "10", "v1", "alpine", "rc", "x"}
	for _, fields := range []string{"tags: '*'", "newest: 3", "tags: ['1*'], newest: 2", "semver: '>=1.2 <10'", "exclude: ['*rc*']", "tags: ['v*', edge], exclude: ['*x*'], newest: 4"} {
		s := tagsOf(t, fields)
		for range 200 {
			var tags []string
			for range random.IntN(30) {
				tag := parts[random.IntN(len(parts))]
				for range random.IntN(3) {
					tag += []string{".", "-"}[random.IntN(2)] + parts[random.IntN(len(parts))]
				}
				tags = append(tags, tag)
			}
			before := slices.Clone(tags)
			got := s.Select(tags)
			if !slices.Equal(before, tags) {
				t.Fatalf("{%s}: Select changes its argument", fields)
			}
			for _, tag := range got {
				if tag != "edge" && !slices.Contains(tags, tag) {
					t.Fatalf("{%s}: %q is not among %q", fields, tag, tags)
				}
			}
			if unique := slices.Compact(slices.Sorted(slices.Values(got))); len(unique) != len(got) {
				t.Fatalf("{%s}: %q has one twice", fields, got)
			}
			random.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
			if again := s.Select(append(tags, tags...)); !slices.Equal(got, again) {
				t.Fatalf("{%s}: %q, and in another order %q", fields, got, again)
			}
			if again := s.Select(got); !slices.Equal(got, again) {
				t.Fatalf("{%s}: %q, of these %q", fields, got, again)
			}
		}
	}
}
