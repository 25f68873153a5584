package rootfs

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// What is too much for Overlay is told as soon as the listings are there that
// are, and of those that are not nothing is.
func TestFit(t *testing.T) {
	one := listed(t, []entry{dir("d"), file("d/a", "0123456789"), symlink("d/b", "a")})
	for _, tt := range []struct {
		listings []*Listing
		limits   Limits
		want     string // in the error; empty: there is none
	}{
		{[]*Listing{one, nil, one}, Limits{Entries: 6}, ""},
		{[]*Listing{one, nil, one}, Limits{Entries: 5}, "layer 3: "},
		{[]*Listing{one, nil, one}, Limits{Bytes: 2 * one.bytes}, ""},
		{[]*Listing{nil, one, one}, Limits{Bytes: 2*one.bytes - 1}, "layer 3: "},
		{[]*Listing{nil, nil}, Limits{}, ""},
	} {
		err := Fit(tt.listings, OverlayOptions{Limits: tt.limits})
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v, want %q", tt.limits, err, tt.want)
		}
	}
}

// Texts count together, too: each of these layers has room for them alone.
func TestFitTexts(t *testing.T) {
	long := listed(t, nil)
	long.text.pages = make([][]byte, maxText/textPage)
	if err := Fit([]*Listing{long}, OverlayOptions{}); err != nil {
		t.Errorf("one layer: %v", err)
	}
	if err := Fit([]*Listing{long, long}, OverlayOptions{}); !errors.Is(err, ErrLimit) {
		t.Errorf("two layers: %v", err)
	}
	open := func(_ context.Context, layer int) (*Listing, error) { return []*Listing{nil, long, long}[layer], nil }
	if _, err := Find(t.Context(), 3, open, "x"); !errors.Is(err, ErrLimit) {
		t.Errorf("Find: %v", err)
	}
}
