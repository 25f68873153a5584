package cli_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/davit-cli/davit/internal/cli"
	"github.com/davit-cli/davit/internal/registrytest"
)

// manyTags starts a registry with an image that has so many tags.
func manyTags(t *testing.T, n int, opts registrytest.Options) *registrytest.Server {
	t.Helper()
	server := registrytest.Start(t, opts)
	server.Push("app", "v0.0.0", registrytest.Image{})
	var tags []string
	for i := range n - 1 {
		tags = append(tags, fmt.Sprintf("v1.%d.%d-linux-amd64-%040d", i/100, i%100, i))
	}
	server.PushTags("app", "v0.0.0", tags...)
	return server
}

// Each page is printed before the registry gives the next.
func TestFirstPageOfTagsAtOnce(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	server := manyTags(t, 50, registrytest.Options{
		TagPage: 10,
		Intercept: func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("last") {
				<-seen
			}
			return false
		},
	})
	davit := exec.Command("davit", "tags", server.Host()+"/app")
	davit.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir())
	davit.Stderr = os.Stderr
	stdout, err := davit.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := davit.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for i := range 10 {
		if !lines.Scan() {
			t.Fatalf("the first page ends after %d tags", i)
		}
	}
	close(seen)
	count := 10
	for lines.Scan() {
		count++
	}
	if err := davit.Wait(); err != nil || count != 50 {
		t.Errorf("%d tags (%v), want 50", count, err)
	}
}

// What sorts is what the registry has served, whole.
func TestManyTags(t *testing.T) {
	t.Parallel()
	server := manyTags(t, 25_000, registrytest.Options{TagPage: 1000})
	for _, flags := range [][]string{nil, {"--sort", "semver"}, {"--json"}} {
		out, peak := output(t, append([]string{"tags", server.Host() + "/app"}, flags...)...)
		if n := strings.Count(out, "\n"); n != 25_000 {
			t.Errorf("%v: %d tags, want 25 000", flags, n)
		}
		if peak > maxMemory && !raceEnabled || peak == 0 && runtime.GOOS == "linux" {
			t.Errorf("%v: the peak of the memory is %d MiB, want at most %d", flags, peak>>20, maxMemory>>20)
		}
	}
}

// maxMemory is what a list of 25 000 tags may take.
const maxMemory = 64 << 20

// output runs davit, and returns what it prints and the peak of its memory in
// bytes, 0 where the system does not tell.
func output(t *testing.T, args ...string) (string, int64) {
	t.Helper()
	dir := t.TempDir()
	davit := exec.Command("measured", append([]string{filepath.Join(dir, "peak")}, args...)...)
	davit.Env = append(os.Environ(), "DOCKER_CONFIG="+dir)
	davit.Stderr = os.Stderr
	out, err := davit.Output()
	if err != nil {
		t.Fatalf("davit %s: %v", strings.Join(args, " "), err)
	}
	peak, err := os.ReadFile(filepath.Join(dir, "peak"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(string(peak), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), n
}

// measuredMain is davit's main; its first argument is a file that gets the peak
// of the memory, which a parent cannot ask for: what it is told includes its own.
func measuredMain() {
	code := cli.Main(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr)
	status, _ := os.ReadFile("/proc/self/status") // none but on Linux
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, "kB")
	kib, _ := strconv.ParseInt(strings.TrimSpace(peak), 10, 64)
	if err := os.WriteFile(os.Args[1], fmt.Append(nil, kib<<10), 0o666); err != nil {
		os.Exit(1)
	}
	os.Exit(code)
}
