package rootfs

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// The same string is kept once, whoever adds it, until the text is sealed.
func TestText(t *testing.T) {
	const n = 20_000
	tx := newText()
	at := make([][]uint32, 4)
	name := func(i int) string { return strings.Repeat("n", i%300) + fmt.Sprint(i) }
	var adders sync.WaitGroup
	for k := range at {
		adders.Go(func() {
			for i := range n {
				ref, err := tx.add(name(i))
				if err != nil {
					t.Error(err)
					return
				}
				at[k] = append(at[k], ref)
			}
		})
	}
	adders.Wait()
	for i := range n {
		for k := range at {
			if got := tx.string(at[k][i]); got != name(i) || at[k][i] != at[0][i] {
				t.Fatalf("%q at %d, not %q at %d", got, at[k][i], name(i), at[0][i])
			}
		}
	}
	tx.seal()
	if ref, err := tx.add(name(7)); err != nil || ref == at[0][7] || tx.string(ref) != name(7) {
		t.Errorf("sealed: %d, %v", ref, err)
	}
	if empty, err := newText().add(""); err != nil || empty != 0 {
		t.Errorf("the empty string: %d, %v", empty, err)
	}
}
