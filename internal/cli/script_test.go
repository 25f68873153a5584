package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-cli/davit/internal/cli"
	"github.com/davit-cli/davit/internal/registrytest"
)

// The scripts in testdata/script are promises to users, written so that people
// can read them. davit runs there as a process of its own; registries run in
// the test's. Besides testscript's own commands there are:
//
//	registry …     run registries with faults, and ask what they served (script_registry_test.go)
//	proxy …        run proxies (script_proxy_test.go)
//	image …        make images and push them (script_image_test.go)
//	listdir, tarlist, tardrop, tartree, tarcat, tarverify, layoutverify, filedigest, json …  look into files (script_files_test.go)
//	fill, damage, cut, join, parts, pack, expand, basicauth  write and change files (script_files_test.go)
//	exits CODE PROGRAM [ARG…]   run a program that must end with that exit code
//	signal INT|TERM|KILL        send a signal to the program in the background
//	exitcode CODE               what the program that signal met has ended with, after wait
//	waitfile FILE [TEXT]        wait until a file is there, with a text in it
//	uploads, figures, modified …          what a sync sent (script_sync_test.go)
//	total FILE                  print the sum of the numbers that lines end with
//	serving FILE                wait until davit serve has printed to it, and set $SERVED to its host
//
// Variables: $REGISTRY is the host of the registry that was started last, $ARCH
// this machine's architecture, $PLATFORM linux on it as --platform takes it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup:              setup,
		Condition:          condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"registry":     registryCommand,
			"proxy":        proxyCommand,
			"image":        imageCommand,
			"listdir":      listdir,
			"tarlist":      tarlist,
			"tardrop":      tardrop,
			"tarcat":       tarcat,
			"tarverify":    tarverify,
			"tartree":      tartree,
			"layoutverify": layoutverify,
			"json":         jsonCommand,
			"filedigest":   filedigest,
			"expand":       expand,
			"fill":         fill,
			"damage":       damage,
			"cut":          cut,
			"join":         join,
			"parts":        parts,
			"pack":         pack,
			"exits":        exits,
			"signal":       signalCommand,
			"exitcode":     exitcode,
			"waitfile":     waitfile,
			"basicauth":    basicauth,
			"serving":      serving,
			"total":        total,
			"uploads":      uploads,
			"figures":      figures,
			"modified":     modified,
		},
	})
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"davit": davitMain, "deaf": deafMain, "measured": measuredMain})
}

// davitMain is cmd/davit's main.
func davitMain() {
	ctx, stop := cli.WithSignals(context.Background())
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// deafMain is a program that does not heed the first signal. It makes a file
// once it listens, and another when the signal has come.
func deafMain() {
	ctx, stop := cli.WithSignals(context.Background())
	defer stop()
	file := os.Args[1]
	if os.WriteFile(file, nil, 0o666) != nil {
		os.Exit(1)
	}
	<-ctx.Done()
	if os.WriteFile(file+".first", nil, 0o666) != nil {
		os.Exit(1)
	}
	select {}
}

// patience is how long a script waits for what must come.
const patience = time.Minute

// state is what the custom commands of one script share.
type state struct {
	registries map[string]*testRegistry
	proxies    map[string]*registrytest.Proxy
	images     map[string]int64 // the bytes of the blobs of what was pushed, by repository:tag
	last       lastPushed
	signalled  *exec.Cmd
}

type stateKey struct{}

func stateOf(ts *testscript.TestScript) *state { return ts.Value(stateKey{}).(*state) }

func setup(env *testscript.Env) error {
	s := &state{registries: map[string]*testRegistry{}, proxies: map[string]*registrytest.Proxy{}, images: map[string]int64{}}
	env.Values[stateKey{}] = s
	env.Defer(func() {
		for _, r := range s.registries {
			r.close()
		}
		for _, p := range s.proxies {
			_ = p.Close()
		}
	})
	env.Setenv("HOME", env.WorkDir+"/home")
	// What this machine's registries.conf says is not for scripts.
	none := filepath.Join(env.WorkDir, ".tmp", "registries.conf")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		return err
	}
	env.Setenv("CONTAINERS_REGISTRIES_CONF", none)
	env.Setenv("ARCH", runtime.GOARCH)
	env.Setenv("PLATFORM", hostPlatform())
	return nil
}

func condition(name string) (bool, error) {
	if name == "root" {
		return os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// exits runs a program that must end with an exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

var signals = map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": os.Kill}

func signalCommand(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.BackgroundCmds()
	if neg || len(args) != 1 || signals[args[0]] == nil || len(running) != 1 {
		ts.Fatalf("usage: signal INT|TERM|HUP|KILL, with one program in the background")
	}
	s := stateOf(ts)
	s.signalled = running[0]
	ts.Check(s.signalled.Process.Signal(signals[args[0]]))
}

func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	s := stateOf(ts)
	if neg || len(args) != 1 || s.signalled == nil || s.signalled.ProcessState == nil {
		ts.Fatalf("usage: exitcode CODE, after signal and wait")
	}
	if got := strconv.Itoa(s.signalled.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// options splits KEY=VALUE words; a word without = is a key with no value.
func options(args []string) map[string]string {
	m := map[string]string{}
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		m[key] = value
	}
	return m
}

// unknown fails for keys that nobody has taken.
func unknown(ts *testscript.TestScript, rest map[string]string) {
	for key := range rest {
		ts.Fatalf("unknown word %q", key)
	}
}

func take(m map[string]string, key string) (string, bool) {
	value, ok := m[key]
	delete(m, key)
	return value, ok
}

func waitfile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitfile FILE [TEXT]")
	}
	path, text := ts.MkAbs(args[0]), strings.Join(args[1:], "")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), text) {
			return
		}
	}
	ts.Fatalf("%s does not come", strings.Join(args, " "))
}
