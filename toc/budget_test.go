package toc

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

// Tables of one image share their budget; one that is not read gives back its part.
func TestBudget(t *testing.T) {
	dirs := func(n int) *layer {
		return zstdWith(make([]byte, 100), entriesOf(strings.Repeat(`{"type":"dir","name":"d"},`, n-1)+`{"type":"dir","name":"d"}`))
	}
	budget := NewBudget(100 * entryCost)
	for i, tt := range []struct {
		entries int
		there   bool
	}{{40, true}, {1000, false}, {40, true}, {40, false}, {1, true}} {
		l := dirs(tt.entries)
		table, err := Open(t.Context(), l.Descriptor, l.read, budget)
		if err != nil || (table != nil) != tt.there {
			t.Errorf("table %d of %d entries: there is one: %t, %v; want %t", i+1, tt.entries, table != nil, err, tt.there)
		}
	}
	l := dirs(1)
	if table, err := Open(t.Context(), l.Descriptor, l.read, new(Budget)); table != nil || err != nil {
		t.Errorf("without room: %v, %v", table, err)
	}
}

// A table ends with its context, also while it is decoded.
func TestOpenEnds(t *testing.T) {
	stopped := errors.New("stopped")
	for name, format := range formats {
		l := build(registrytest.Layer{Files: files(), Chunked: format})
		ctx, cancel := context.WithCancelCause(t.Context())
		read := func(ctx context.Context, off, n int64, w io.Writer) error {
			defer cancel(stopped)
			return l.read(ctx, off, n, w)
		}
		if table, err := Open(ctx, l.Descriptor, read, nil); table != nil || !errors.Is(err, stopped) {
			t.Errorf("%s: %v, %v; want what ended it", name, table != nil, err)
		}
	}
}
