package synclist

import (
	"slices"
	"strings"
)

// unknown is the error of a field that there is not, with the one that may be
// meant.
func (f *file) unknown(v field, known []string) error {
	at := strings.TrimSuffix(v.path, show(v.key))
	if at = strings.TrimSuffix(at, "."); at != "" {
		at += " has"
	} else {
		at = "there is"
	}
	if near := nearest(v.key, known); near != "" {
		return f.errorf(v.line, "%s no field %s: did you mean %s?", at, quote(v.key), near)
	}
	return f.errorf(v.line, "%s no field %s: want one of %s", at, quote(v.key), strings.Join(known, ", "))
}

// nearest is the known word that is most like s; empty where none is.
func nearest(s string, known []string) string {
	if len(s) > maxShown {
		return ""
	}
	best, least := "", 3
	for _, word := range known {
		d := distance(strings.ToLower(s), strings.ToLower(word))
		if d < least && d < max(2, len(word)/2) {
			best, least = word, d
		}
	}
	return best
}

// distance is how many letters must be changed, left out, put in or swapped with
// their neighbour to make b of a.
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = slices.Min([]int{last[j] + 1, row[j-1] + 1, last[j-1] + cost})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
