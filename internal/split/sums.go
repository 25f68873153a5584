package split

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/davit-cli/davit/image"
)

// Sums are the checksums of the parts, and what is known of the whole.
type Sums struct {
	// Size is that of the whole in bytes; 0 where it is not told.
	Size int64
	// Whole is the whole's sha256 in hex.
	Whole string
	// Parts are those of the parts, in their order.
	Parts []string
}

const (
	sizeLabel  = "# bytes of the whole: "
	wholeLabel = "# sha256 of the whole: "
	// maxSums bounds what is read: more than MaxParts lines with long names.
	maxSums = 1 << 20
	// maxCommand is how long a line cmd.exe takes.
	maxCommand = 8000
)

// Format is the file of checksums, of the file at path. The same sums give the
// same bytes.
func (s Sums) Format(path string) []byte {
	base := filepath.Base(path)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s in parts, %s to %s\n", base, Name(base, 1), Name(base, len(s.Parts)))
	fmt.Fprintf(&b, "%s%d\n%s%s\n", sizeLabel, s.Size, wholeLabel, s.Whole)
	fmt.Fprintf(&b, "# check the parts: sha256sum -c %s\n", shellWord(SumsName(base)))
	fmt.Fprintf(&b, "# join them: %s > %s\n", JoinCommand(base), shellWord(base))
	var windows []string
	for n := range s.Parts {
		windows = append(windows, windowsWord(Name(base, n+1)))
	}
	if command := "copy /b " + strings.Join(windows, "+") + " " + windowsWord(base); len(command) < maxCommand {
		fmt.Fprintf(&b, "# join them on Windows: %s\n", command)
	}
	fmt.Fprintf(&b, "# load them without joining: %s | docker load\n", JoinCommand(base))
	for n, sum := range s.Parts {
		fmt.Fprintf(&b, "%s  %s\n", sum, Name(base, n+1))
	}
	return b.Bytes()
}

// JoinCommand is what a shell joins the parts of the file at path with, in their
// directory.
func JoinCommand(path string) string {
	return "cat " + shellWord(filepath.Base(path)) + ".[0-9][0-9][0-9]"
}

// shellWord is a name as a shell's command line takes it.
func shellWord(name string) string {
	if strings.HasPrefix(name, "-") {
		name = "./" + name
	}
	if strings.Trim(name, wordChars) == "" {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

func windowsWord(name string) string {
	if strings.Trim(name, wordChars) == "" {
		return name
	}
	return `"` + name + `"`
}

// wordChars need no quotes anywhere.
const wordChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/"

// readSums reads the checksums of the file at path. They are nil where there are
// none, or what is there tells nothing of the parts: somebody may have written
// the whole's there. Errors wrap image.ErrVerification.
func readSums(path string) (*Sums, error) {
	name := SumsName(path)
	if info, err := os.Stat(name); os.IsNotExist(err) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSums+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	s, err := parseSums(b, filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", image.ErrVerification, filepath.Base(name), err)
	}
	return s, nil
}

// parseSums reads the checksums of the parts of base, and passes over those of
// other files.
func parseSums(b []byte, base string) (*Sums, error) {
	if len(b) > maxSums {
		return nil, fmt.Errorf("it has more than %d bytes", maxSums)
	}
	s := &Sums{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		if size, ok := strings.CutPrefix(line, sizeLabel); ok {
			n, err := strconv.ParseInt(size, 10, 64)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("%q is no size", size)
			}
			s.Size = n
			continue
		}
		if whole, ok := strings.CutPrefix(line, wholeLabel); ok {
			s.Whole = whole
			continue
		}
		sum, name, ok := strings.Cut(line, " ")
		if text, is := strings.CutPrefix(name, " "); is {
			name = text
		} else {
			name = strings.TrimPrefix(name, "*") // binary
		}
		whole, n, isPart := Number(strings.TrimPrefix(name, "./"))
		if !ok || !isPart || whole != base {
			continue
		}
		if _, err := hex.DecodeString(sum); err != nil || len(sum) != 2*sha256.Size {
			return nil, fmt.Errorf("the checksum of %s is none of sha256", name)
		}
		if n != len(s.Parts)+1 {
			return nil, fmt.Errorf("%s is there in place of %s", Name(base, n), Name(base, len(s.Parts)+1))
		}
		s.Parts = append(s.Parts, strings.ToLower(sum))
	}
	if len(s.Parts) == 0 {
		return nil, nil
	}
	return s, nil
}

// hashStep is how much is hashed at a time.
const hashStep = 1 << 20

// sumAndSync hashes the parts at paths, and the whole with them, and makes them
// durable.
func sumAndSync(ctx context.Context, paths []string, size int64, events image.EventFunc) (s Sums, err error) {
	stage := image.NewStage(events, "hash the parts", size)
	defer func() { stage.End(err) }()
	whole := sha256.New()
	for _, path := range paths {
		of := sha256.New()
		to := io.MultiWriter(whole, of)
		if len(paths) == 1 {
			to = of
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return Sums{}, err
		}
		n, err := copyHash(ctx, to, f, stage)
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return Sums{}, err
		}
		s.Size += n
		s.Parts = append(s.Parts, hexOf(of))
	}
	s.Whole = hexOf(whole)
	if len(paths) == 1 {
		s.Whole = s.Parts[0]
	}
	if s.Size != size {
		return Sums{}, fmt.Errorf("the parts have %d bytes, not %d", s.Size, size)
	}
	return s, nil
}

func hexOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// copyHash hashes what r has, until ctx ends.
func copyHash(ctx context.Context, to io.Writer, r io.Reader, stage *image.Stage) (int64, error) {
	buf := make([]byte, hashStep)
	for sum := int64(0); ; {
		if ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		n, err := r.Read(buf)
		_, _ = to.Write(buf[:n]) // hashes know no errors
		stage.Add(int64(n))
		sum += int64(n)
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}
