package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/ui"
	"github.com/davit-cli/davit/serve"
	"github.com/davit-cli/davit/verify"
)

const serveLong = `Serve archives, OCI layouts and directories of components as a read-only registry,
so that docker, podman, containerd and Kubernetes pull from a file, where there is no
other registry. It prints each image's name there on stdout once it can be pulled.

docker.io/library/alpine:3.20 is served as library/alpine:3.20, and by its full name
as docker.io/library/alpine:3.20, so that it may be a mirror in registries.conf or
hosts.toml. An image without a name gets that of the file, and the tag latest where
it is the only one there. PATH=NAME gives the images of a path another repository, or
the only one another repository and tag. The paths are read when davit starts; layers
may stand in another path than the manifest that names them (deltas).

Manifests are verified each time, a layer when it is first served whole: where it is
wrong the connection ends before the layer does. --verify checks everything first.

Docker takes a registry on 127.0.0.1 without TLS. For other machines give --addr
0.0.0.0:5000 and a certificate, or have them take plain HTTP: insecure-registries in
Docker's daemon.json, --tls-verify=false for podman and skopeo, --plain-http for ctr.`

const serveExample = `  davit serve bundle.tar
  docker pull 127.0.0.1:5000/library/alpine:3.20
  davit serve may.tar june.tar layout/ app.tar=team/app:1.0
  davit serve bundle.tar --addr 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem
  davit serve bundle.tar -u me --password-stdin < password`

const serveFooter = `Ctrl-C, SIGTERM or a closed terminal stop it: what is under way may end within --grace,
and the exit code is 0. A second signal ends it at once.

` + exitCodesHelp + `

Environment:` + tempHelp

type serveOptions struct {
	paths    []servedPath
	listen   listenFlags
	username string
	stdin    bool // has the password
	verify   bool
	display  displayFlags
	given    func(flag string) bool
}

// servedPath is an argument: a path, and what its images are called.
type servedPath struct{ path, name string }

func newServe(s streams) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:         "serve PATH[=NAME]...",
		Short:       "Serve images on disk as a read-only registry",
		Long:        serveLong,
		Example:     serveExample,
		Annotations: map[string]string{"footer": serveFooter},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	o.listen.add(flags)
	flags.StringVarP(&o.username, "username", "u", "", "`USER` whom clients must be; asks for the password unless --password-stdin")
	flags.BoolVar(&o.stdin, "password-stdin", false, "read the password from stdin")
	flags.BoolVar(&o.verify, "verify", false, "check all blobs before any is served, as davit verify does")
	o.display.add(cmd)
	o.given = flags.Changed
	return cmd
}

func (o *serveOptions) validate(args []string) error {
	if len(args) == 0 {
		return usagef("serve takes files or directories, such as: davit serve bundle.tar")
	}
	o.paths = nil
	for _, arg := range args {
		at, err := parseServed(arg)
		if err != nil {
			return err
		}
		o.paths = append(o.paths, at)
	}
	switch {
	case o.given("username") && o.username == "":
		return usagef("--username is empty")
	case strings.Contains(o.username, ":"):
		return errPasswordInUsername
	case o.stdin && o.username == "":
		return usagef("--password-stdin needs --username")
	}
	if err := o.listen.validate(); err != nil {
		return err
	}
	return o.display.validate()
}

// parseServed reads PATH or PATH=NAME. A path that is there is one, whatever it
// is called.
func parseServed(arg string) (servedPath, error) {
	at := servedPath{path: arg}
	err := davit.Stat(arg)
	if i := strings.LastIndexByte(arg, '='); err != nil && i > 0 {
		at = servedPath{arg[:i], arg[i+1:]}
		if _, _, err := serve.SplitName(at.name); err != nil {
			return at, usageError{err}
		}
		err = davit.Stat(at.path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return at, fmt.Errorf("serve %s: %w: there is no such file or directory", at.path, image.ErrNotFound)
	}
	return at, nil
}

func (o *serveOptions) run(ctx context.Context, s streams) error {
	password, err := o.password(ctx, s)
	if err != nil {
		return err
	}
	listening, err := o.listen.open(ctx) // first, as it is soon known whether that goes
	if err != nil {
		return explainServe(err)
	}
	defer listening.close()

	loading := o.display.open(s.err)
	defer loading.Close()
	from, closeAll, err := o.open(ctx, loading.events)
	defer closeAll()
	if err != nil {
		return explainServe(err)
	}
	running := o.display
	if running.progress != "json" {
		running.progress = "plain" // there are no bars
	}
	shown := running.open(s.err)
	defer shown.Close()
	opts := serve.Options{Username: o.username, Password: password, Events: shown.events}
	if o.display.verbose || o.display.debug {
		opts.Access = func(a serve.Access) { shown.step("%s", accessLine(a)) }
	}
	handler, err := serve.New(ctx, from, opts)
	if err != nil {
		return explainServe(err)
	}
	loading.Close()
	o.tell(shown, listening, handler.Images())
	if err := printServed(s, listening.host, handler.Images(), o.display.json); err != nil {
		return err
	}
	err = handler.Serve(ctx, listening.listener, serve.ListenOptions{TLS: listening.tls, Grace: o.listen.graceTime()})
	if errors.Is(err, serve.ErrCut) {
		shown.warn("requests were under way still after %s: their connections were cut", ui.Duration(o.listen.grace))
		err = nil
	}
	if by := interruption(ctx, nil); by != nil && err == nil {
		shown.note("stopped: %s", by)
	}
	return err
}

// password is the one that clients need, empty where they need none.
func (o *serveOptions) password(ctx context.Context, s streams) (string, error) {
	switch {
	case o.stdin:
		return readSecret(ctx, s.in, "--password-stdin")
	case o.username != "":
		return askPassword(ctx, s, "", fmt.Sprintf("Password that %s shall have: ", o.username))
	}
	return "", nil
}

// open opens the stores, checked where that is wanted. closeAll closes those
// that are open, also where there is an error.
func (o *serveOptions) open(ctx context.Context, events image.EventFunc) (from []serve.From, closeAll func(), err error) {
	closeAll = func() {
		for _, f := range from {
			_ = f.Store.Close() // it was only read
		}
	}
	for _, at := range o.paths {
		if o.verify {
			if err := checkServed(ctx, at.path, events); err != nil {
				return from, closeAll, err
			}
		}
		store, err := davit.OpenStore(ctx, at.path, events)
		if err != nil {
			return from, closeAll, err
		}
		from = append(from, serve.From{Store: store, Path: at.path, Name: at.name})
	}
	return from, closeAll, nil
}

// checkServed is --verify for one path.
func checkServed(ctx context.Context, path string, events image.EventFunc) error {
	report, err := verify.Check(ctx, path, verify.Options{Events: events})
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("%s: %w: %s", path, image.ErrVerification, problemText(report.Problems[0]))
	}
	return nil
}

// tell says what is served, and how it is pulled.
func (o *serveOptions) tell(shown display, l *listening, images []serve.Image) {
	scheme := "http"
	if l.tls != nil {
		scheme = "https"
	}
	shown.note("serving %s on %s://%s until Ctrl-C", countOf(len(images), "image"), scheme, l.host)
	if len(images) > 0 {
		shown.note("to pull: docker pull %s/%s", l.host, images[0].Reference())
	}
	if l.tls == nil && !l.loopback && o.username != "" {
		shown.warn("the password goes over the network in clear: give --tls-cert and --tls-key")
	}
}

// servedResult is what --json prints for an image.
type servedResult struct {
	// Name is what clients pull.
	Name string `json:"name"`
	serve.Image
}

// printServed prints the images' names in the registry, all at once: whoever
// reads one may pull it.
func printServed(s streams, host string, images []serve.Image, asJSON bool) error {
	var b strings.Builder
	for _, img := range images {
		name := host + "/" + img.Reference()
		var err error
		if asJSON {
			err = printJSON(&b, servedResult{name, img})
		} else {
			_, err = fmt.Fprintf(&b, "%s\t%s\n", line(name), img.Digest)
		}
		if err != nil {
			return err
		}
	}
	if _, err := io.WriteString(toReader{s.out}, b.String()); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// accessLine is what --verbose tells of a request.
func accessLine(a serve.Access) string {
	return line(fmt.Sprintf("%s %s %s %d %s %s %s", a.Remote, a.Method, a.URI, a.Status, ui.Size(a.Bytes), a.Took.Round(time.Microsecond), a.Agent))
}

// explainServe adds to err what a person can do about it.
func explainServe(err error) error {
	var collision *serve.CollisionError
	switch {
	case errors.As(err, &collision):
		return failure{err: err, hint: "give the images of one path another name: PATH=NAME"}
	case errors.Is(err, syscall.EADDRINUSE):
		return failure{err: err, hint: "another program has that port: give another one with --addr 127.0.0.1:5001, or any free one with --addr 127.0.0.1:0"}
	case errors.Is(err, serve.ErrName):
		return usageError{err}
	case errors.Is(err, image.ErrVerification):
		return failure{err: err, hint: "davit verify PATH tells all that is wrong there"}
	}
	return err
}
