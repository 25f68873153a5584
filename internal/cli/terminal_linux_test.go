package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-cli/davit/internal/registrytest"
)

// terminal is a pseudo-terminal: what a program on tty prints is in shown.
type terminal struct {
	control, tty *os.File

	mu    sync.Mutex
	shown bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	control := os.NewFile(uintptr(fd), "ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{control: control, tty: tty}
	t.Cleanup(func() { _ = tty.Close(); _ = control.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := control.Read(buf)
			term.mu.Lock()
			term.shown.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return term
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.shown.String()
}

// echoes tells whether the terminal shows what is typed.
func (term *terminal) echoes(t *testing.T) bool {
	t.Helper()
	now, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return now.Lflag&unix.ECHO != 0
}

// eventually waits until what is expected is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: never", what)
		}
	}
}

// The terminal does not show the password that is typed, and shows what is
// typed again afterwards.
func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	registry := registrytest.Start(t, registrytest.Options{
		Auth: &registrytest.Auth{Scheme: registrytest.Basic, User: "me", Password: "canary-7431"},
	})
	registry.Push("app", "v1", registrytest.Image{})
	term := newTerminal(t)
	davit := exec.Command("davit", "pull", registry.Host()+"/app:v1", "-u", "me")
	davit.Dir = t.TempDir()
	davit.Env = append(os.Environ(), "DOCKER_CONFIG="+davit.Dir)
	davit.Stdin, davit.Stdout, davit.Stderr = term.tty, term.tty, term.tty
	if err := davit.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the echo is off", func() bool { return !term.echoes(t) })
	if _, err := term.control.WriteString("canary-7431\n"); err != nil {
		t.Fatal(err)
	}
	if err := davit.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, term.text())
	}
	if !term.echoes(t) {
		t.Error("the echo is still off")
	}
	eventually(t, "the result is shown", func() bool { return strings.Contains(term.text(), "app_v1.tar\t") })
	if strings.Contains(term.text(), "canary") {
		t.Errorf("the terminal shows the password:\n%s", term.text())
	}
}

// Ctrl-C at the prompt ends davit and gives the terminal its echo back.
func TestInterruptedPrompt(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	davit := exec.Command("davit", "pull", "registry.invalid/app:v1", "-u", "me")
	davit.Dir = t.TempDir()
	davit.Stdin, davit.Stdout, davit.Stderr = term.tty, term.tty, term.tty
	if err := davit.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the echo is off", func() bool { return !term.echoes(t) })
	if err := davit.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = davit.Wait()
	if code := davit.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	if !term.echoes(t) {
		t.Error("the echo is still off")
	}
	eventually(t, "the message is shown", func() bool { return strings.Contains(term.text(), "davit: interrupted") })
}

// On a terminal bars are drawn while blobs come; in the end they are gone and
// the result stands there.
func TestBars(t *testing.T) {
	t.Parallel()
	registry := registrytest.Start(t, registrytest.Options{})
	image := registry.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{
		registrytest.RandomLayer(1, 2<<20), registrytest.RandomLayer(2, 64<<10)}})
	registry.Configure(func(o *registrytest.Options) {
		o.Stall = &registrytest.Stall{After: 100 << 10, Times: 1, Match: registrytest.Of(image.Layers[0].Digest)}
	})
	term := newTerminal(t)
	davit := exec.Command("davit", "pull", registry.Host()+"/app:v1", "--stall", "1s", "-j", "1")
	davit.Dir = t.TempDir()
	davit.Env = append(os.Environ(), "TERM=xterm", "DOCKER_CONFIG="+davit.Dir)
	davit.Stdin, davit.Stdout, davit.Stderr = term.tty, term.tty, term.tty
	if err := davit.Start(); err != nil {
		t.Fatal(err)
	}
	digits := image.Layers[0].Digest.Encoded()[:12]
	eventually(t, "a bar is drawn", func() bool { return strings.Contains(term.text(), digits) })
	if err := davit.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, term.text())
	}
	eventually(t, "the result is shown", func() bool {
		return strings.HasSuffix(term.text(), "app_v1.tar\t"+registry.Host()+"/app:v1@"+image.Manifest.Digest.String()+"\r\n")
	})
}
