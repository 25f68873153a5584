// Package split keeps one file as a row of parts, x.tar.001, x.tar.002 and so
// on, as `split -d -a 3 --numeric-suffixes=1` makes them and cat joins them; and
// their checksums in x.tar.sha256, as sha256sum writes and checks them.
package split

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// MaxParts is how many parts there may be: names of three digits are in order
// for cat and for people.
const MaxParts = 999

// Name is the name of the part n, from 1 on, of the file at path.
func Name(path string, n int) string { return fmt.Sprintf("%s.%03d", path, n) }

// Names are those of all parts of so many bytes each.
func Names(path string, size, part int64) []string {
	var names []string
	for n := range Count(size, part) {
		names = append(names, Name(path, n+1))
	}
	return names
}

// SumsName is the name of the checksums.
func SumsName(path string) string { return path + ".sha256" }

// Number parts the name of a part from that of the file.
func Number(name string) (path string, n int, ok bool) {
	i := len(name) - len(".001")
	if i < 1 || name[i] != '.' || os.IsPathSeparator(name[i-1]) {
		return "", 0, false
	}
	if strings.Trim(name[i+1:], "0123456789") != "" {
		return "", 0, false
	}
	n, err := strconv.Atoi(name[i+1:])
	return name[:i], n, err == nil
}

// Count is how many parts there are of size bytes: one at least. Parts of 0
// bytes are one that has no end.
func Count(size, part int64) int {
	if part <= 0 || size <= part {
		return 1
	}
	return int((size + part - 1) / part)
}

// CheckCount is an error where size bytes are too many parts; it names the parts
// that are large enough.
func CheckCount(size, part int64) error {
	n := Count(size, part)
	if n <= MaxParts {
		return nil
	}
	const step = 1_000_000
	enough := (size + MaxParts - 1) / MaxParts
	enough = (enough + step - 1) / step
	return fmt.Errorf("it has %d bytes, which are %d parts of %s, and %d are the most: parts of %dMB are large enough",
		size, n, units.HumanSizeWithPrecision(float64(part), 4), MaxParts, enough)
}

// CheckName refuses the name of a file that cannot be written in parts: one of a
// part, or one that a line of the checksums cannot tell as it is.
func CheckName(path string) error {
	base := filepath.Base(path)
	if whole, _, ok := Number(base); ok {
		return fmt.Errorf("%s is the name of a part: name the whole, %s", base, whole)
	}
	if strings.ContainsAny(base, "\\\r\n") {
		return fmt.Errorf("%q cannot be written in parts: its checksums are a list of names, which may have neither line breaks nor backslashes", base)
	}
	return nil
}

// CheckOutput is an error where what stands there is in the way of parts: a file
// of the whole's name, which readers would take for what is written; or what
// Commit cannot replace.
func CheckOutput(path string) error {
	if err := CheckName(path); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already, as one file, and whoever reads %s would get that: remove it, or name another output",
			path, filepath.Base(path))
	}
	numbers, err := present(path)
	if err != nil {
		return err
	}
	if slices.Contains(numbers, 0) {
		return fmt.Errorf("%s is there, which is no part of davit's, and cat would join it with the parts: remove it, or name another output", Name(path, 0))
	}
	names := []string{SumsName(path)}
	for _, n := range numbers {
		names = append(names, Name(path, n))
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s is there and is no file: remove it, or name another output", name)
		}
	}
	return nil
}

// present are the numbers of the parts that are there, in order, whatever they
// are.
func present(path string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries { // sorted, and so are numbers of three digits
		if whole, n, ok := Number(e.Name()); ok && whole == filepath.Base(path) {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}
