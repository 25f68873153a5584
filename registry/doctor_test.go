package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

// diagnosed are the findings of a diagnosis, and its verdict.
type diagnosed struct {
	t        *testing.T
	findings []Finding
	err      error
}

// diagnose diagnoses name, and checks what holds for every finding.
func diagnose(t *testing.T, name string, opts Options) diagnosed {
	t.Helper()
	reference, err := ref.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	d := diagnosed{t: t}
	d.err = Diagnose(t.Context(), reference, opts, func(f Finding) { d.findings = append(d.findings, f) })
	for _, f := range d.findings {
		if f.Hop == "" || f.Host == "" || f.Status == "" || f.Text == "" || strings.ContainsAny(f.Text, "\n\r\x1b") {
			t.Errorf("a finding without something, or with too much: %+v", f)
		}
		if f.Status == StatusFault && f.Err == nil {
			t.Errorf("a fault without an error: %+v", f)
		}
		if all := fmt.Sprintf("%+v %v", f, f.Err); strings.Contains(all, canary) || strings.Contains(all, "sig=") {
			t.Errorf("a secret: %s", all)
		}
	}
	return d
}

// at is the only finding of a hop at a host (any where it is empty), in a
// mirror's section where that is named.
func (d diagnosed) at(hop Hop, host, mirror string) Finding {
	d.t.Helper()
	var found []Finding
	for _, f := range d.findings {
		if f.Hop == hop && (host == "" || f.Host == host) && f.Mirror == mirror {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		d.t.Fatalf("%d findings of %s, want one:\n%s", len(found), hop, d)
	}
	return found[0]
}

// want checks the only finding of a hop at the registry itself.
func (d diagnosed) want(hop Hop, status Status, text string) {
	d.t.Helper()
	if f := d.at(hop, "", ""); f.Status != status || !strings.Contains(f.Text, text) {
		d.t.Errorf("%s is %s: %q; want %s: %q", hop, f.Status, f.Text, status, text)
	}
}

func (d diagnosed) String() string {
	var lines []string
	for _, f := range d.findings {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s", f.Status, f.Hop, f.Host, f.Mirror, f.Text))
	}
	return strings.Join(lines, "\n")
}

// Who takes connections and gives no answer is not asked again and again.
func TestDiagnoseWithoutAnswer(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Intercept: func(w http.ResponseWriter, _ *http.Request) bool {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
		return true
	}})
	d := diagnose(t, "http://"+s.Host()+"/team/app:v1", Options{})
	d.want(HopAPI, StatusFault, "the connection was cut")
	d.want(HopManifest, StatusSkipped, "")
	if d.err == nil || s.Stats().Requests != 1 {
		t.Errorf("%d requests, error %v", s.Stats().Requests, d.err)
	}
}

// The whole way, with a realm and a store on other ports, leaves no fault.
func TestDiagnose(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{
		Auth:     &registrytest.Auth{User: "me", Password: canary, OwnRealm: true},
		Redirect: &registrytest.Redirect{Hops: 1},
	})
	s.Push("team/app", "v1", registrytest.Image{})
	d := diagnose(t, s.Host()+"/team/app:v1", Options{Credentials: given("me", canary)})
	if d.err != nil {
		t.Errorf("error %v", d.err)
	}
	for _, f := range d.findings {
		if f.Status != StatusOK {
			t.Errorf("%s is %s: %s", f.Hop, f.Status, f.Text)
		}
	}
	for _, host := range []string{s.Host(), s.HostOf(registrytest.Realm), s.HostOf(registrytest.CDN)} {
		if f := d.at(HopTCP, host, ""); f.Details["address"] != host {
			t.Errorf("%s is connected to at %s", host, f.Details["address"])
		}
	}
	if f := d.at(HopBlob, "", ""); f.Host != s.HostOf(registrytest.CDN) {
		t.Errorf("the blob is from %s", f.Host)
	}
	if s.BlobBytes() > sample {
		t.Errorf("%d bytes of blobs", s.BlobBytes())
	}
	if n := s.Stats().Exchanges; n != 1 {
		t.Errorf("%d tokens for one image", n)
	}
}

// An image of one tiny layer, one without a layer, an index, and one by digest.
func TestDiagnoseImages(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	index := s.PushIndex("app", "index", registrytest.Index{Attestations: true, Images: []registrytest.Image{{Platform: registrytest.Image{}.Platform}}})
	none := s.AddBlob([]byte("{}"))
	bare := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`, none.Digest)
	s.Content.AddManifest("app", "bare", "application/vnd.oci.image.manifest.v1+json", []byte(bare))
	for _, name := range []string{"app:index", "app:bare", "app@" + index.Index.Digest.String()} {
		d := diagnose(t, s.Host()+"/"+name, Options{})
		if d.err != nil {
			t.Errorf("%s: %v\n%s", name, d.err, d)
		}
		d.want(HopRanges, StatusOK, "206")
	}
	// No tag, and no latest: the newest version, as a pull takes it.
	s.Push("versions", "v1.2.0", registrytest.Image{})
	d := diagnose(t, s.Host()+"/versions", Options{})
	d.want(HopManifest, StatusOK, "sha256:")
	// What is no manifest.
	s.Content.AddManifest("app", "odd", "application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion":2,"layers":[]}`))
	d = diagnose(t, s.Host()+"/app:odd", Options{})
	d.want(HopManifest, StatusFault, "config")
	if !errors.Is(d.err, image.ErrVerification) {
		t.Errorf("error %v", d.err)
	}
}

// jwt is a token as Docker's token server writes it.
func jwt(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte("signature"))
}

func TestDiagnoseToken(t *testing.T) {
	access := func(name string, actions ...string) string {
		return fmt.Sprintf(`{"access":[{"type":"repository","name":%q,"actions":["%s"]}]}`, name, strings.Join(actions, `","`))
	}
	for _, test := range []struct {
		name   string
		token  string
		takes  bool // the registry does
		status Status
		text   string
	}{
		{"granted", jwt(access("team/app", "push", "pull")), true, StatusOK, "it grants repository:team/app:push,pull"},
		{"everything", jwt(access("team/app", "*")), true, StatusOK, "it grants repository:team/app:*"},
		{"nothing", jwt(`{"access":[]}`), false, StatusFault, "it grants nothing, not repository:team/app:pull"},
		{"null", jwt(`{"access":null}`), false, StatusFault, "the registry refuses it"},
		{"another repository", jwt(access("team/other", "pull")), false, StatusFault, "it grants repository:team/other:pull, not repository:team/app:pull"},
		{"another repository, taken", jwt(access("team/other", "pull")), true, StatusOK, "and the registry takes it"},
		{"opaque", "opaque-" + canary, true, StatusOK, "cannot be read"},
		{"opaque, refused", "opaque-" + canary, false, StatusFault, "the registry refuses it"},
		{"hostile", jwt(`{"access":[{"type":"a\u001b[31m","name":"b\nc","actions":["d"]}]}`), true, StatusOK, "a[31m:b c:d"},
	} {
		t.Run(test.name, func(t *testing.T) {
			realm := newTokens(t, httptest.NewServer)
			realm.answer = func(w http.ResponseWriter, _ *http.Request, _ int) {
				_, _ = fmt.Fprintf(w, `{"token":%q}`, test.token)
			}
			server := serve(t, guardedBy(realm, func(got string) bool { return test.takes && got == "Bearer "+test.token }))
			d := diagnose(t, host(server)+"/team/app:v1", Options{})
			d.want(HopToken, test.status, test.text)
			if denied := test.status == StatusFault; denied != errors.Is(d.err, image.ErrUnauthorized) {
				t.Errorf("error %v", d.err)
			}
			if strings.Contains(d.String(), test.token) {
				t.Errorf("the token is shown:\n%s", d)
			}
		})
	}
}

func TestReadClaims(t *testing.T) {
	for _, token := range []string{"", "a.b", "a.b.c", "..", jwt("[]"), jwt("{"), jwt(`{"access":"all"}`), jwt("{}"), "a." + canary + ".c"} {
		if c, ok := readClaims(token); ok {
			t.Errorf("%q says %s", token, c)
		}
	}
}

// A credential that is refused: fatal where it was given, a warning where it was
// lying about and the image is public.
func TestDiagnoseCredential(t *testing.T) {
	wrong := credential.Credential{Username: "me", Password: "wrong-" + canary}
	for _, scheme := range []registrytest.AuthScheme{registrytest.Bearer, registrytest.Basic} {
		auth := &registrytest.Auth{Scheme: scheme, User: "me", Password: canary, Anonymous: true}
		s := registrytest.Start(t, registrytest.Options{Auth: auth})
		s.Push("team/app", "v1", registrytest.Image{})
		name := s.Host() + "/team/app:v1"

		d := diagnose(t, name, Options{Credentials: given("me", "wrong-"+canary)})
		if !errors.Is(d.err, image.ErrUnauthorized) {
			t.Errorf("error %v", d.err)
		}
		if scheme == registrytest.Basic {
			d.want(HopCredential, StatusFault, "from --username, which the registry refuses")
			continue
		}
		d.want(HopCredential, StatusOK, "from --username")
		d.want(HopToken, StatusFault, "401 Unauthorized: incorrect username or password; with the credential from --username")

		d = diagnose(t, name, Options{Credentials: stored(wrong)})
		d.want(HopCredential, StatusWarning, "from /home/me/config.json, which is refused")
		d.want(HopManifest, StatusOK, "sha256:")
		if d.err != nil {
			t.Errorf("error %v", d.err)
		}
	}

	// One that cannot be had: nothing is sent in its place.
	s := registrytest.Start(t, registrytest.Options{Auth: &registrytest.Auth{}})
	d := diagnose(t, s.Host()+"/team/app:v1", Options{Credentials: func(context.Context, string, string) (credential.Credential, error) {
		return credential.Credential{}, errors.New("the helper hangs")
	}})
	d.want(HopCredential, StatusFault, "the helper hangs")
	if !errors.Is(d.err, ErrCredential) {
		t.Errorf("error %v", d.err)
	}
	// A challenge that nobody here can meet.
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "Negotiate")
		w.WriteHeader(http.StatusUnauthorized)
	})
	d = diagnose(t, host(server)+"/team/app:v1", Options{})
	d.want(HopChallenge, StatusFault, "none that davit can meet: negotiate")
}

// A realm that no request is sent to, one that is down, and one in trouble.
func TestDiagnoseRealm(t *testing.T) {
	named := func(url string) Options {
		s := registrytest.Start(t, registrytest.Options{Auth: &registrytest.Auth{RealmURL: url}})
		return Options{Routes: func(_, repository string) (hosts.Route, error) {
			return hosts.Route{Origin: hosts.Endpoint{Registry: s.Host(), Repository: repository}}, nil
		}}
	}
	d := diagnose(t, "registry.test/team/app:v1", named("http://169.254.169.254/token?x="+canary))
	d.want(HopRealm, StatusFault, "metadata")
	if !errors.Is(d.err, ErrRealm) {
		t.Errorf("error %v", d.err)
	}
	d = diagnose(t, "registry.test/team/app:v1", named("http://127.0.0.1:1/token?x="+canary))
	if f := d.at(HopTCP, "127.0.0.1:1", ""); f.Status != StatusFault || f.Text != "connection refused" {
		t.Errorf("%s: %s", f.Status, f.Text)
	}
	d.want(HopRealm, StatusSkipped, "not reached, because of the fault at tcp")
	if !errors.Is(d.err, ErrRefused) {
		t.Errorf("error %v", d.err)
	}
	broken := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	d = diagnose(t, "registry.test/team/app:v1", named(broken.URL+"/token"))
	d.want(HopRealm, StatusFault, "502 Bad Gateway")
	babbling := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	d = diagnose(t, "registry.test/team/app:v1", named(babbling.URL+"/token"))
	d.want(HopRealm, StatusOK, "/token")
	d.want(HopToken, StatusFault, "not a token in JSON")
}

// Each host on the way to a token is told by its own name.
func TestDiagnoseRealmThatRedirects(t *testing.T) {
	second := newTokens(t, httptest.NewServer)
	first := serve(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, second.URL+"/token", http.StatusTemporaryRedirect)
	})
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", first.URL))
		w.WriteHeader(http.StatusUnauthorized)
	})
	d := diagnose(t, host(server)+"/team/app:v1", Options{})
	for _, s := range []*httptest.Server{first, second.Server} {
		if f := d.at(HopTCP, host(s), ""); f.Details["address"] != host(s) {
			t.Errorf("%s is connected to at %s", host(s), f.Details["address"])
		}
	}
}

// Why it is not known which proxy to use may hold its URL.
func TestDiagnoseProxyThatIsNotKnown(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	d := diagnose(t, s.Host()+"/team/app:v1", Options{Proxy: func(*http.Request) (*url.URL, error) {
		return nil, errors.New("invalid proxy address http://me:" + canary + "@proxy.test")
	}})
	d.want(HopProxy, StatusFault, "it is not known which one to use")
	if !errors.Is(d.err, ErrProxy) {
		t.Errorf("error %v", d.err)
	}
}

// The store that blobs are redirected to is down.
func TestDiagnoseStorage(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	s.Push("team/app", "v1", registrytest.Image{})
	s.Configure(func(o *registrytest.Options) {
		o.Answers = []registrytest.Answer{{Match: registrytest.Blobs, Status: http.StatusTemporaryRedirect,
			Header: http.Header{"Location": {"http://127.0.0.1:1/x?sig=" + canary}}}}
	})
	d := diagnose(t, s.Host()+"/team/app:v1", Options{})
	if f := d.at(HopTCP, "127.0.0.1:1", ""); f.Status != StatusFault {
		t.Errorf("%s: %s", f.Status, f.Text)
	}
	d.want(HopBlob, StatusSkipped, "because of the fault at tcp")
	if !errors.Is(d.err, ErrRefused) {
		t.Errorf("error %v", d.err)
	}
}

// A mirror that fails is a warning. One that works makes up for a registry that
// is down, but not for one that lacks the tag.
func TestDiagnoseMirrors(t *testing.T) {
	origin, good, empty := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{})
	pushed := origin.Push("team/app", "v1", registrytest.Image{})
	pushed.AddTo(good.Content, "cache/team/app", "stale")
	digest := pushed.Manifest.Digest.String()
	at := func(host, repository string) hosts.Endpoint {
		return hosts.Endpoint{Registry: host, Repository: repository, Host: hosts.Host{Scheme: "http"}, Source: "--mirror"}
	}
	routes := func(origin string, mirrors ...hosts.Endpoint) Options {
		return Options{Routes: func(string, string) (hosts.Route, error) {
			return hosts.Route{Origin: at(origin, "team/app"), Mirrors: mirrors}, nil
		}}
	}
	down, cache := at("127.0.0.1:1", "x"), at(good.Host(), "cache/team/app")
	cacheName := good.Host() + "/cache/team/app"

	// Mirrors are asked by the digest that the tag has.
	d := diagnose(t, "registry.test/team/app:v1", routes(origin.Host(), down, at(empty.Host(), "team/app"), cache))
	if d.err != nil {
		t.Errorf("error %v\n%s", d.err, d)
	}
	if f := d.at(HopTCP, "127.0.0.1:1", "127.0.0.1:1/x"); f.Status != StatusWarning || !errors.Is(f.Err, ErrRefused) {
		t.Errorf("%s: %s", f.Status, f.Text)
	}
	if f := d.at(HopManifest, "", empty.Host()+"/team/app"); f.Status != StatusWarning || !errors.Is(f.Err, image.ErrNotFound) {
		t.Errorf("%s: %s", f.Status, f.Text)
	}
	if f := d.at(HopManifest, "", cacheName); f.Status != StatusOK || f.Details["digest"] != digest {
		t.Errorf("%s: %s", f.Status, f.Text)
	}

	// The registry is down.
	for name, want := range map[string]error{"app:stale": nil, "app@" + digest: nil, "app:v1": ErrRefused} {
		d = diagnose(t, "registry.test/team/"+name, routes("127.0.0.1:1", cache))
		if !errors.Is(d.err, want) {
			t.Errorf("%s: error %v, want %v", name, d.err, want)
		}
		d.want(HopTCP, StatusFault, "refused")
		if want == nil {
			d.want(HopMirror, StatusWarning, "a pull takes the image from "+cacheName)
		}
	}

	// It is up, and does not have the tag, which mirrors do not change.
	d = diagnose(t, "registry.test/team/app:stale", routes(origin.Host(), cache))
	if !errors.Is(d.err, image.ErrNotFound) {
		t.Errorf("error %v", d.err)
	}

	noDigests, noTags := cache, cache
	noDigests.NoDigests, noTags.NoTags = true, true
	d = diagnose(t, "registry.test/team/app:v1", routes(origin.Host(), noDigests))
	if f := d.at(HopMirror, "", cacheName); f.Status != StatusSkipped || f.Text != "it is not asked for digests (--mirror)" {
		t.Errorf("%s: %s", f.Status, f.Text)
	}
	d = diagnose(t, "registry.test/team/app:v1", routes("127.0.0.1:1", noTags))
	if f := d.at(HopMirror, "", cacheName); f.Status != StatusSkipped || f.Text != "it is not asked for tags (--mirror)" {
		t.Errorf("%s: %s", f.Status, f.Text)
	}
}

func TestDiagnoseBlocked(t *testing.T) {
	d := diagnose(t, "registry.test/team/app:v1", Options{Routes: func(string, string) (hosts.Route, error) {
		return hosts.Route{Blocked: "/etc/containers/registries.conf"}, nil
	}})
	d.want(HopRoute, StatusFault, "/etc/containers/registries.conf")
	if !errors.Is(d.err, ErrBlocked) || len(d.findings) != 1 {
		t.Errorf("error %v, %d findings", d.err, len(d.findings))
	}
}

// Where the context ends, nothing more is reported, and its cause is the error.
func TestDiagnoseCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stopped := errors.New("stopped")
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/v2/" {
			return
		}
		cancel(stopped)
		<-req.Context().Done()
	})
	reference, err := ref.Parse(host(server) + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	last := Hop("")
	err = Diagnose(ctx, reference, Options{}, func(f Finding) { last = f.Hop })
	if !errors.Is(err, stopped) || last != HopAPI {
		t.Errorf("error %v, the last finding is of %s", err, last)
	}
}
