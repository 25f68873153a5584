package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// patience is how long a real part may take for what takes it a second or two.
// It is there to end a test that hangs, and no measure of anything.
const patience = 2 * time.Minute

// process is a server that runs for one test.
type process struct {
	name  string
	log   string // the file with all that it printed
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// start runs a server until the test's end. Where the test fails, what the
// server printed last is logged.
func start(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, ended: make(chan struct{}), log: filepath.Join(t.TempDir(), name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		_ = cmd.Wait() // its status tells nothing that the log doesn't
		_ = log.Close()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("%s printed last:\n%s", name, p.tail())
		}
	})
	return p
}

// stop ends the server, and kills it where it doesn't end by itself.
func (p *process) stop(t testing.TB) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Errorf("%s did not end: killed", p.name)
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// await waits until the server is ready.
func (p *process) await(t testing.TB, ready func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(patience)
	for !ready() {
		select {
		case <-poll.C:
		case <-p.ended:
			t.Fatalf("%s ended instead of getting ready", p.name)
		case <-deadline:
			t.Fatalf("%s did not get ready", p.name)
		}
	}
}

// serves waits until the server takes connections at address.
func (p *process) serves(t testing.TB, address string) {
	t.Helper()
	p.await(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// freeAddress is an address on loopback for a server that can't choose a free
// port by itself.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// tail returns the end of what the server printed.
func (p *process) tail() string {
	const most = 4000
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-most):])
}
