package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/components"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/layout"
	"github.com/davit-cli/davit/registry"
)

func TestExitCodes(t *testing.T) {
	running, cancelled := context.Background(), cancelledBy(nil)
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{running, errors.New("x"), 1},
		{running, usagef("x"), 2},
		{running, fmt.Errorf("a: %w", image.ErrNotFound), 3},
		{running, fmt.Errorf("a: %w", &image.PlatformError{}), 3},
		{running, fmt.Errorf("a: %w", image.ErrUnauthorized), 4},
		{running, fmt.Errorf("a: %w", image.ErrVerification), 5},
		{running, failure{err: fmt.Errorf("a: %w", image.ErrVerification)}, 5},
		{running, context.DeadlineExceeded, 1}, // of a request, not of the command
		{cancelled, errors.New("x"), 130},
		{cancelledBy(&Interrupted{os.Interrupt}), errors.New("x"), 130},
		{cancelledBy(&Interrupted{syscall.SIGTERM}), context.Canceled, 143},
	} {
		if got := exitCode(test.ctx, test.err); got != test.want {
			t.Errorf("%v: exit code %d, want %d", test.err, got, test.want)
		}
	}
}

func cancelledBy(cause error) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return ctx
}

func TestHints(t *testing.T) {
	hub := circumstances{registry: "docker.io", resumable: true}
	other := circumstances{registry: "registry.lan:5000", resumable: true}
	begun := circumstances{registry: "registry.lan:5000", resumable: true, fetching: true}
	stream := circumstances{registry: "registry.lan:5000", fetching: true}
	mixed := circumstances{registry: "registry.lan:5000", disk: "x.tar"}
	busy := &image.RetryError{Busy: true, Err: errors.New("429")}
	for _, test := range []struct {
		err  error
		c    circumstances
		want string // "" for no hint
	}{
		{fmt.Errorf("write: %w", syscall.ENOSPC), other, "make room"},
		{fmt.Errorf("write: %w", partial.ErrNoSpace), other, "goes on from there"},
		{fmt.Errorf("open: %w", syscall.EACCES), other, "-o PATH"},
		{fmt.Errorf("open: %w", syscall.EROFS), other, "-o PATH"},
		{fmt.Errorf("open: %w", partial.ErrLocked), other, "-o PATH"},
		{busy, hub, "davit login"},
		{busy, other, "fewer requests"},
		{fmt.Errorf("write: %w", layout.ErrNoLayout), other, "empty or not there, with -o DIR"},
		{fmt.Errorf("write: %w", layout.ErrNoLayout), circumstances{carries: true}, "a directory that is empty or not there"},
		{fmt.Errorf("write: %w", partial.ErrTooLarge), circumstances{carries: true, resumable: true}, "davit pull --split 4G"},
		{io.ErrUnexpectedEOF, circumstances{resumable: true, fetching: true, target: "registry.lan"}, "what has arrived whole is not sent again"},
		{fmt.Errorf("read: %w", layout.ErrNoLayout), circumstances{disk: "x"}, "what can be read"},
		{fmt.Errorf("read: %w", archive.ErrNoArchive), mixed, "what can be read"},
		{fmt.Errorf("read: %w", components.ErrNoComponents), mixed, "what can be read"},
		{fmt.Errorf("read: %w", image.ErrVerification), circumstances{disk: "a b"}, "davit verify 'a b' tells all"},
		{fmt.Errorf("read: %w", image.ErrVerification), mixed, "davit verify x.tar tells whether"},
		{fmt.Errorf("read: %w", image.ErrVerification), other, "sends wrong content"},
		{fmt.Errorf("open: %w", syscall.EACCES), mixed, "may read x.tar"},
		{errors.New("nobody knows"), other, ""},
		{errors.New("nobody knows"), circumstances{resumable: true, fetching: true}, "goes on from there"},
		{errors.New("nobody knows"), stream, "run the same command again"},
		{io.ErrUnexpectedEOF, other, "run the same command again"},
		{io.ErrUnexpectedEOF, begun, "goes on from there"},
		{fmt.Errorf("get blob: %w", image.ErrNotFound), begun, "lacks a part of the image"},
		{fmt.Errorf("get: %w: %w", registry.ErrCertificate, x509.HostnameError{Certificate: new(x509.Certificate)}), other, "registry's name"},
		{fmt.Errorf("get: %w: %w", registry.ErrCertificate, x509.CertificateInvalidError{Reason: x509.Expired}), other, "renew"},
		{&image.RetryError{Busy: true, Err: &registry.Error{Status: http.StatusServiceUnavailable}}, hub, "a fault of its own"},
		{&image.RetryError{Busy: true, Err: &registry.Error{Status: http.StatusTooManyRequests}}, other, "fewer requests"},
		{fmt.Errorf("mkdir: %w", syscall.ENAMETOOLONG), other, "-o PATH"},
		{fmt.Errorf("x: %w", image.ErrUnauthorized), hub, "davit login,"},
		{fmt.Errorf("x: %w", image.ErrUnauthorized), other, "davit login registry.lan:5000,"},
		{fmt.Errorf("x: %w", registry.ErrProxy), other, "NO_PROXY"},
		{fmt.Errorf("x: %w", registry.ErrCredential), other, "credsStore"},
		{&image.PlatformError{}, other, ""},
		{because(registry.Error{Step: "get manifest a:1", Host: "registry-1.docker.io"}, registry.ErrUnknownHost), hub, "check that registry-1.docker.io, to which docker.io leads"},
		{because(registry.Error{Step: "get blob a@sha256:0", Host: "cdn.example"}, registry.ErrRefused), other, "check that cdn.example, to which registry.lan:5000 leads"},
		{because(registry.Error{Step: "get manifest a:1", Host: "registry.lan:5000"}, registry.ErrRefused), other, "check the registry's name and port"},
		{because(registry.Error{Step: "get blob a@sha256:0", Host: "cdn.example", Status: 403}, nil), other, "leads to cdn.example"},
		{because(registry.Error{Step: "get blob a@sha256:0", Host: "registry.lan:5000", Status: 404}, image.ErrNotFound), other, "lacks a part"},
		{because(registry.Error{Step: "get manifest a:1", Host: "registry.lan:5000", Status: 404}, image.ErrNotFound), other, "check the name and the tag"},
		{because(registry.Error{Host: "registry.lan:5000", Status: 401}, fmt.Errorf("%w: %w", image.ErrUnauthorized, registry.ErrChallenge)), other, "Basic and Bearer"},
		{because(registry.Error{Host: "registry.lan:5000", Status: 401, Credential: "--username"}, fmt.Errorf("%w: %w", image.ErrUnauthorized, registry.ErrChallenge)), other, "user's name"},
		{because(registry.Error{Host: "tokens.lan"}, registry.ErrRealm), other, "token server"},
	} {
		got := hint(test.err, test.c)
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%v: hint %q, want %q", test.err, got, test.want)
		}
	}
	if got := hint(errors.New("x"), stream); strings.Contains(got, "goes on") {
		t.Errorf("a stream does not go on: %q", got)
	}
}

// because is a failure of a registry with what it is besides.
func because(e registry.Error, cause error) error {
	if cause == nil {
		return &e
	}
	return fmt.Errorf("%w: %w", &e, cause)
}

// A token that grants nothing was given for a credential that is right, or for none.
func TestRemedyOfTokenWithoutScope(t *testing.T) {
	for credential, want := range map[string]string{"--username": "ask for the right", "": "log in with"} {
		f := registry.Finding{
			Hop: registry.HopToken, Status: registry.StatusFault, Details: map[string]string{"granted": "nothing"},
			Err: fmt.Errorf("x: %w: %w", &registry.Error{Status: http.StatusUnauthorized, Credential: credential}, image.ErrUnauthorized),
		}
		if got := remedy(f, circumstances{registry: "registry.lan"}); !strings.Contains(got, want) {
			t.Errorf("credential %q: %q, want %q", credential, got, want)
		}
	}
}

// Whatever an error has in it, it is one line without control characters; only
// a list of platforms has lines of its own.
func TestErrorText(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("a\nhint: b\x1b[2J\u009b\r\tc"), "a hint: b[2J c"},
		{errors.New("a\u202eb \u2028 c\xff"), "ab c\uFFFD"},
		{fmt.Errorf("pull\nx: %w", &image.PlatformError{
			Want: image.Platform{OS: "linux", Architecture: "amd64"},
			Available: []image.Descriptor{{
				Digest:   "sha256:abc",
				Platform: &image.Platform{OS: "linux", Architecture: "arm\n64"},
			}},
		}), "pull x: there is no image for linux/amd64; choose one of these:\n" +
			"  --platform linux/arm64   # digest sha256:abc"},
	} {
		if got := text(test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Labels and the words of a token server are printed as JSON too: the same
// strings, of which a terminal makes nothing.
func TestJSONIsFitForATerminal(t *testing.T) {
	said := map[string]string{"hostile": "\x1b[2J\u009b2J\x7f\u202e\u2066\u2028", "benign": "ünï <b> 日本 🐳"}
	var out strings.Builder
	if err := printJSON(&out, said); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSuffix(out.String(), "\n"); clean(got) != got {
		t.Errorf("printed %q", got)
	}
	if !strings.Contains(out.String(), said["benign"]) {
		t.Errorf("printed %s", out.String())
	}
	var read map[string]string
	if err := json.Unmarshal([]byte(out.String()), &read); err != nil || !maps.Equal(read, said) {
		t.Errorf("read %q, %v", read, err)
	}
}

func TestByteRate(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1, "500K": 500 << 10, "500k": 500 << 10, "5M": 5 << 20, "1.5M": 3 << 19, "1G": 1 << 30, "5MB": 5 << 20, "5MiB": 5 << 20,
		"": -1, "M": -1, "-1": -1, "fast": -1, "5X": -1, "1e30": -1, "99999999P": -1, "NaN": -1,
	} {
		var r byteRate
		err := r.Set(s)
		if want < 0 && err == nil {
			t.Errorf("%q is %d, want an error", s, r)
		}
		if want >= 0 && (err != nil || int64(r) != want) {
			t.Errorf("%q is %d (%v), want %d", s, r, err, want)
		}
	}
}

func TestPartSize(t *testing.T) {
	for s, want := range map[string]int64{
		"4G": 4e9, "4g": 4e9, "4GB": 4e9, "4GiB": 4 << 30, "4gib": 4 << 30, "700M": 7e8, "1MB": 1e6, "1MiB": 1 << 20, "1.5G": 15e8, "1000000": 1e6,
		"": -1, "G": -1, "0": -1, "-1G": -1, "999999": -1, "900K": -1, "much": -1, "5X": -1, "1e30": -1, "99999999P": -1, "NaN": -1,
	} {
		var p partSize
		err := p.Set(s)
		if want < 0 && err == nil {
			t.Errorf("%q is %d, want an error", s, p)
		}
		if want >= 0 && (err != nil || int64(p) != want) {
			t.Errorf("%q is %d (%v), want %d", s, p, err, want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for s, want := range map[string]string{
		"davit-demo.tar": "davit-demo.tar", "/tmp/a_b,c.tar": "/tmp/a_b,c.tar",
		"a b": "'a b'", "": "''", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "a;b": "'a;b'", "ä": "'ä'",
	} {
		if got := shellWord(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestBuild(t *testing.T) {
	b := build{Go: "go1.26", OS: "linux", Arch: "amd64"}
	b.add(&debug.BuildInfo{
		Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef"},
			{Key: "vcs.time", Value: "2026-11-01T00:00:00Z"},
			{Key: "vcs.modified", Value: "true"},
		},
	})
	if got, want := b.line(), "v1.2.3 (0123456789ab, modified) go1.26 linux/amd64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// What the linker set goes before what the toolchain knows.
	b = build{Version: "v9"}
	b.add(&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}})
	if b.Version != "v9" {
		t.Errorf("version %s, want v9", b.Version)
	}
}

// A result that cannot be printed is an error: a script must not go on as if
// it had the line.
func TestResultCannotBePrinted(t *testing.T) {
	var stderr bytes.Buffer
	if code := Main(context.Background(), []string{"version"}, nil, full{}, &stderr); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if code := Main(context.Background(), []string{"version", "--json"}, nil, full{}, &stderr); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if !strings.Contains(stderr.String(), "davit: ") {
		t.Errorf("stderr: %q", stderr.String())
	}
}

// full is a file on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
