package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ConflictError lists what a file system cannot hold. Nothing was written.
type ConflictError struct {
	Conflicts []Conflict
}

// Conflict is a path that cannot be, or several that cannot be together.
type Conflict struct {
	Paths  []string
	Reason string
}

// Error lists the first of the conflicts.
func (e *ConflictError) Error() string {
	const most = 20
	var b strings.Builder
	fmt.Fprintf(&b, "the file system there cannot hold %d of the image's names:", len(e.Conflicts))
	for i, c := range e.Conflicts {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(e.Conflicts)-most)
			break
		}
		if i > 0 {
			b.WriteByte(';')
		}
		for j, p := range c.Paths {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %q", short(p))
		}
		b.WriteString(" (" + c.Reason + ")")
	}
	return b.String()
}

// nameLimits are what a file system makes of names.
type nameLimits struct {
	fold    bool // names that differ by case are one
	windows bool // Windows' rules
}

// probe finds out by a file that it makes and removes.
func probe(top *os.Root) (nameLimits, error) {
	l := nameLimits{windows: runtime.GOOS == "windows"}
	const name = ".davit-probe-a"
	f, err := top.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return l, err
	}
	_, err = top.Lstat(strings.ToUpper(name))
	l.fold = err == nil
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return l, errors.Join(err, f.Close(), top.Remove(name))
}

// conflicts lists what cannot be written, in the order of the tree.
func (t *Tree) conflicts(limits nameLimits) []Conflict {
	if !limits.fold && !limits.windows {
		return nil
	}
	return t.conflictsIn(root, limits, nil)
}

func (t *Tree) conflictsIn(dir uint32, limits nameLimits, found []Conflict) []Conflict {
	same := map[string][]uint32{}
	var keys []string
	for _, id := range t.children(dir) {
		name := t.text.string(t.tree.node(id).name)
		if limits.windows {
			if why := windowsForbids(name); why != "" {
				found = append(found, Conflict{[]string{t.path(id)}, why})
			}
		}
		key := name
		if limits.fold {
			key = fold(name)
		}
		if same[key] = append(same[key], id); len(same[key]) == 2 {
			keys = append(keys, key)
		}
		if t.tree.node(id).first != 0 {
			found = t.conflictsIn(id, limits, found)
		}
	}
	for _, key := range keys {
		c := Conflict{Reason: "they differ by case alone"}
		for _, id := range same[key] {
			c.Paths = append(c.Paths, t.path(id))
		}
		found = append(found, c)
	}
	return found
}

// fold is the same for names that differ by case alone.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}

// windowsForbids says why Windows cannot hold a name, or "".
func windowsForbids(name string) string {
	if !utf8.ValidString(name) {
		return "not in UTF-8"
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r < ' ' || strings.ContainsRune(`<>:"/\|?*`, r) }); i >= 0 {
		return fmt.Sprintf("Windows allows no %q in names", name[i])
	}
	if strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
		return "Windows allows no name that ends in a dot or space"
	}
	base, _, _ := strings.Cut(name, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	reserved := []string{"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
	if slices.Contains(reserved, base) {
		return "Windows keeps the name for itself"
	}
	if rest, ok := strings.CutPrefix(base, "COM"); ok || strings.HasPrefix(base, "LPT") {
		if !ok {
			rest = base[len("LPT"):]
		}
		if utf8.RuneCountInString(rest) == 1 && strings.ContainsAny(rest, "0123456789¹²³") {
			return "Windows keeps the name for itself"
		}
	}
	return ""
}
