package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
	davitregistry "github.com/davit-cli/davit/registry"
)

// uploadSize is that of a blob which goes in several pieces.
const uploadSize = 40 << 20

// oldRegistry runs distribution 2, as Debian has it.
func oldRegistry(t *testing.T) *registry {
	t.Helper()
	dir := workDir(t)
	address := freeAddress(t)
	config := filepath.Join(dir, "config.yml")
	text := strings.Replace(fmt.Sprintf(registryConfig, filepath.Join(dir, "storage")), "127.0.0.1:0", address, 1)
	writeFile(t, config, text)
	p := start(t, "docker-registry", exec.Command(debian(t, "docker-registry"), "serve", config))
	p.serves(t, address)
	return &registry{host: address}
}

// unreliable is a proxy before a registry, which cuts connections within the
// bodies of requests of a method: after so many bytes of each, so many times.
type unreliable struct {
	host string
	left atomic.Int64
	sent atomic.Int64 // bytes of bodies
}

func newUnreliable(t *testing.T, host, method string, after, times int64) *unreliable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &unreliable{host: listener.Addr().String()}
	u.left.Store(times)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	forward.Transport = &http.Transport{DisableKeepAlives: true}
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &cutBody{ReadCloser: r.Body, u: u, room: -1}
		if r.Method == method && r.ContentLength > after && u.left.Add(-1) >= 0 {
			body.room = after
		}
		r.Body = body
		forward.ServeHTTP(w, r) // the Host stays as it is
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return u
}

type cutBody struct {
	io.ReadCloser
	u    *unreliable
	room int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.room == 0 {
		return 0, errors.New("cut")
	}
	if b.room > 0 {
		p = p[:min(int64(len(p)), b.room)]
	}
	n, err := b.ReadCloser.Read(p)
	b.u.sent.Add(int64(n))
	if b.room > 0 {
		b.room -= int64(n)
	}
	return n, err
}

// pushTarget opens a repository to push to.
func pushTarget(t *testing.T, s *davitregistry.Session, host, name string) *davitregistry.Repository {
	t.Helper()
	r, err := s.Open(ref.Reference{Registry: host, Repository: name})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func uploaded(seed uint64, size int) (ocispec.Descriptor, []byte) {
	data := registrytest.RandomBytes(seed, size)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(size)}, data
}

// inOrder gives bytes once, in order.
func inOrder(data []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(data)} }

// checkUploaded fails where the repository does not give the blob's bytes.
func checkUploaded(t *testing.T, r *davitregistry.Repository, d ocispec.Descriptor, data []byte) {
	t.Helper()
	got, err := r.OpenRange(t.Context(), d, 0, d.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	if all, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(all, data) {
		t.Errorf("the registry gives %d other bytes, %v", len(all), err)
	}
}

func TestUploads(t *testing.T) {
	enabled(t)
	for name, run := range map[string]func(*testing.T) *registry{
		"distribution 3": func(t *testing.T) *registry { return startRegistry(t) },
		"distribution 2": oldRegistry,
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t)
			s := davitregistry.NewSession(davitregistry.Options{})
			app, other := pushTarget(t, s, r.host, "team/app"), pushTarget(t, s, r.host, "team/other")
			for i, size := range []int{0, 1, 1000, 16 << 20, uploadSize} {
				d, data := uploaded(uint64(i), size)
				if has, err := app.HasBlob(t.Context(), d); has || err != nil {
					t.Fatal(has, err)
				}
				if err := app.PushBlob(t.Context(), d, inOrder(data)); err != nil {
					t.Fatal(err)
				}
				if has, err := app.HasBlob(t.Context(), d); !has || err != nil {
					t.Fatal(has, err)
				}
				checkUploaded(t, app, d, data)
				if mounted, err := other.MountBlob(t.Context(), d, app); !mounted || err != nil {
					t.Error(mounted, err)
				}
				checkUploaded(t, other, d, data)
			}
			// What is not there is not mounted, and uploaded in the session
			// that was opened.
			d, data := uploaded(100, 1000)
			if mounted, err := other.MountBlob(t.Context(), d, app); mounted || err != nil {
				t.Error(mounted, err)
			}
			if err := other.PushBlob(t.Context(), d, inOrder(data)); err != nil {
				t.Error(err)
			}
			checkUploaded(t, other, d, data)
			if err := app.PushBlob(t.Context(), d, inOrder(make([]byte, 1000))); !errors.Is(err, image.ErrVerification) {
				t.Errorf("wrong bytes: %v", err)
			}
			pushWhole(t, app)
		})
	}
}

// pushWhole pushes a manifest, after one whose layer is not there.
func pushWhole(t *testing.T, r *davitregistry.Repository) {
	t.Helper()
	p := registrytest.Build(registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(7, 1000)}})
	content := image.Content{Descriptor: p.Manifest, Bytes: p.ManifestBytes}
	if err := r.PushBlob(t.Context(), p.Config, bytes.NewReader(p.ConfigBytes)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PushManifest(t.Context(), content, "v1"); err == nil || !strings.Contains(err.Error(), p.Layers[0].Digest.String()) {
		t.Errorf("a layer is not there: %v", err)
	}
	if err := r.PushBlob(t.Context(), p.Layers[0], bytes.NewReader(p.LayerBytes(0))); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"", "v1"} {
		if _, err := r.PushManifest(t.Context(), content, tag); err != nil {
			t.Error(err)
		}
	}
	if got, err := r.Manifest(t.Context(), "v1"); err != nil || got.Digest != p.Manifest.Digest {
		t.Errorf("%s, %v", got.Digest, err)
	}
}

// An upload whose connection is cut goes on where distribution 3 tells that it
// got. Distribution 2 gives it up: then what is kept is sent again, or read.
func TestUploadsThatAreCut(t *testing.T) {
	enabled(t)
	d, data := uploaded(1, uploadSize)
	t.Run("distribution 3", func(t *testing.T) {
		u := newUnreliable(t, startRegistry(t).host, http.MethodPatch, 5<<20, 4)
		r := pushTarget(t, davitregistry.NewSession(davitregistry.Options{}), u.host, "team/app")
		if err := r.PushBlob(t.Context(), d, inOrder(data)); err != nil {
			t.Fatal(err)
		}
		checkUploaded(t, r, d, data)
		if more := u.sent.Load() - d.Size; more > 4<<20 || u.left.Load() > 0 {
			t.Errorf("%d bytes more were sent than there are, with %d cuts left", more, u.left.Load())
		}
	})
	t.Run("distribution 2", func(t *testing.T) {
		u := newUnreliable(t, oldRegistry(t).host, http.MethodPatch, 5<<20, 1)
		r := pushTarget(t, davitregistry.NewSession(davitregistry.Options{}), u.host, "team/app")
		for name, content := range map[string]io.Reader{
			"from its start": struct{ io.ReadSeeker }{bytes.NewReader(data)}, "at will": bytes.NewReader(data),
		} {
			u.left.Store(1)
			d, data := d, data
			if name == "at will" {
				d, data = uploaded(2, uploadSize)
				content = bytes.NewReader(data)
			}
			if err := r.PushBlob(t.Context(), d, content); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			checkUploaded(t, r, d, data)
		}
	})
}

// An upload needs a token for pushing, and goes on with another one where that
// has ended; what is only read gets none such.
func TestUploadsWithTokens(t *testing.T) {
	enabled(t)
	tokens := startTokenServer(t, htpasswd(t, robin))
	r := serveRegistry(t, filepath.Join(workDir(t), "storage"), tokens.auth(""))
	s := davitregistry.NewSession(davitregistry.Options{Credentials: func(context.Context, string, string) (credential.Credential, error) {
		return credential.Credential{Username: robin.name, Password: robin.password, Source: "the test"}, nil
	}})
	app, other := pushTarget(t, s, r.host, robin.repository()), pushTarget(t, s, r.host, robin.name+"/other")
	d, data := uploaded(3, uploadSize)
	if err := app.PushBlob(t.Context(), d, inOrder(data)); err != nil {
		t.Fatal(err)
	}
	if mounted, err := other.MountBlob(t.Context(), d, app); !mounted || err != nil {
		t.Error(mounted, err)
	}
	checkUploaded(t, other, d, data)
	pushWhole(t, app)
}
