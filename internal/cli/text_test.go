package cli

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/davit-cli/davit"
)

func TestTerminalWriter(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain text", "a line\nand another\n", "a line\nand another\n"},
		{"tabs", "a\tb\t\n\tc", "a\tb\t\n\tc"},
		{"escapes", "\x1b[31mred\x1b[0m\a\b\r\n", "[31mred[0m\n"},
		{"controls of one character", "a\u009b31mb\u0085c\x7f", "a31mbc"},
		{"text that runs backwards", "a\u202eb\u2066c", "abc"},
		{"characters of two to four bytes", "é€\U0001F600\n", "é€\U0001F600\n"},
		{"bytes that are no text", "a\xff\x9bb\xc3(\n", "a\ufffd\ufffdb\ufffd(\n"},
		{"a character that is cut off", "a\xe2\x82b\n", "a\ufffd\ufffdb\n"},
		{"nothing", "", ""},
	} {
		for size := 1; size <= len(tt.in)+1; size++ {
			var out bytes.Buffer
			w := &terminalWriter{out: &out}
			for part := []byte(tt.in); len(part) > 0; {
				n := min(size, len(part))
				if got, err := w.Write(part[:n]); got != n || err != nil {
					t.Fatalf("%s: wrote %d of %d bytes, %v", tt.name, got, n, err)
				}
				part = part[n:]
			}
			if out.String() != tt.want {
				t.Errorf("%s, %d bytes at once: %q, want %q", tt.name, size, out.String(), tt.want)
			}
		}
	}
}

// What is written is not changed where it came from, and is not kept.
func TestTerminalWriterKeepsNothing(t *testing.T) {
	var out bytes.Buffer
	w := &terminalWriter{out: &out}
	b := []byte("a\xc3")
	if _, err := w.Write(b); err != nil || string(b) != "a\xc3" {
		t.Errorf("%q, %v", b, err)
	}
	copy(b, "xx")
	if _, err := w.Write([]byte("\xa9\n")); err != nil || out.String() != "aé\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestTerminalWriterError(t *testing.T) {
	closed, err := os.Create(t.TempDir() + "/closed")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := (&terminalWriter{out: closed}).Write([]byte("text")); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
}

// What is no terminal gets everything as it is.
func TestForReader(t *testing.T) {
	var out strings.Builder
	if _, err := forReader(&out).Write([]byte("\x1b[31m\xc3")); err != nil || out.String() != "\x1b[31m\xc3" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// What all images failed of is told once.
func TestTextOfFailuresWithOneReason(t *testing.T) {
	full, gone := errors.New("write x.tar: no space left"), errors.New("app:2: not found")
	err := &davit.CopyError{Asked: 4, Failures: []davit.Failure{{Err: full}, {Err: gone}, {Err: full}}}
	want := "3 of 4 images could not be copied:\n  write x.tar: no space left\n  app:2: not found"
	if got := text(err); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
