package registry

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// Hop is a step on the way to an image.
type Hop string

// The hops, in the order in which a diagnosis meets them. Those from HopProxy
// to HopTLS are walked for each host: the registry, the realm, and the host
// that blobs come from.
const (
	HopRoute      Hop = "route"      // what is configured for the registry
	HopProxy      Hop = "proxy"      // the proxy in use
	HopName       Hop = "name"       // name resolution
	HopTCP        Hop = "tcp"        // the connection
	HopTLS        Hop = "tls"        // the server's certificate
	HopAPI        Hop = "/v2/"       // the distribution API's root
	HopChallenge  Hop = "challenge"  // how the registry wants to be convinced
	HopCredential Hop = "credential" // what we have for that
	HopRealm      Hop = "realm"      // who gives tokens
	HopToken      Hop = "token"      // what the token is good for
	HopManifest   Hop = "manifest"   // the image's
	HopBlob       Hop = "blob"       // its largest layer, and who serves that
	HopRanges     Hop = "ranges"     // pieces of the layer
	HopClock      Hop = "clock"      // ours beside the servers'
	HopLimit      Hop = "limit"      // pulls that are left
	HopMirror     Hop = "mirror"     // whether mirrors make up for the registry
)

// Status is what came out at a hop.
type Status string

// What may come out at a hop.
const (
	StatusOK      Status = "ok"
	StatusWarning Status = "warning" // a pull goes on
	StatusFault   Status = "fault"   // a pull fails, or is likely to
	StatusSkipped Status = "skipped" // not looked at, or not needed: Text says why
)

// Finding is what a diagnosis has found at one hop. Nothing in it is a secret,
// and every text is one line.
type Finding struct {
	Hop Hop
	// Host is whom the finding is about: host or host:port, as in URLs.
	Host string
	// Mirror is the mirror whose section the finding is in, as
	// host[:port]/repository; empty for the registry itself.
	Mirror string
	Status Status
	Text   string
	// Err is the cause of a fault, and of some warnings: what a pull would end
	// with there.
	Err error
	// Details are the parts of Text for programs: proxy and source; addresses;
	// address; version, authority, root, expires and days_left; status; scheme,
	// scope and offered; source; realm; granted; digest, media_type and size;
	// limit, remaining and window; seconds.
	Details map[string]string
	// Duration is how long the hop took, where that was measured.
	Duration time.Duration
}

// Diagnose walks the way to an image hop by hop and reports what it finds at
// each, in order, from one goroutine. The requests are a pull's, made by the
// same code with the same options (but without retries), so that it meets what
// a pull meets; beside them it asks for /v2/, for the manifest's header, and for
// a few KiB of a layer. After a fault it goes on as far as that makes sense and
// reports what it skips.
//
// The error is what a pull would end with, nil where a pull is likely to work:
// it wraps image.ErrNotFound, image.ErrUnauthorized, image.ErrVerification or a
// sentinel of this package, or is ctx's own. A fault at a mirror is reported as
// a warning, since a pull goes on without that mirror.
func Diagnose(ctx context.Context, reference ref.Reference, opts Options, report func(Finding)) error {
	opts.Retries = -1
	d := newDiagnosis(reference, opts, report)
	defer func() { _ = d.session.Close() }()
	route, err := d.session.Route(reference)
	if err != nil {
		d.tell(Finding{Hop: HopRoute, Host: reference.Host(), Status: StatusFault, Text: err.Error(), Err: err}, oneline.Clean)
		return err
	}
	origin := d.examine(ctx, route.Origin, "", d.reference.Digest.String())
	works := ""
	for _, mirror := range route.Mirrors {
		if ctx.Err() != nil {
			break
		}
		if m := d.examineMirror(ctx, mirror, origin.digest); m != nil && m.err == nil && works == "" {
			works = m.mirror
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case origin.err == nil || works == "" || !mayComeFromMirror(origin.err, reference):
		return origin.err
	}
	d.tell(Finding{Hop: HopMirror, Host: origin.host, Status: StatusWarning, Text: "a pull takes the image from " + works + " in place of " + origin.host}, oneline.Clean)
	return nil
}

// mayComeFromMirror tells whether a pull asks mirrors after the registry itself
// has failed so.
func mayComeFromMirror(err error, reference ref.Reference) bool {
	switch {
	case errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrVerification):
		return reference.Digest != ""
	}
	return true
}

// diagnosis is one Diagnose.
type diagnosis struct {
	reference ref.Reference
	session   *Session
	report    func(Finding)

	mu          sync.Mutex
	credentials map[string]lookedFor // by registry and repository
}

// lookedFor is what a lookup of a credential has found.
type lookedFor struct {
	credential credential.Credential
	err        error
}

func newDiagnosis(reference ref.Reference, opts Options, report func(Finding)) *diagnosis {
	d := &diagnosis{reference: reference, report: report, credentials: map[string]lookedFor{}}
	if find := opts.Credentials; find != nil {
		opts.Credentials = func(ctx context.Context, registry, repository string) (credential.Credential, error) {
			c, err := find(ctx, registry, repository)
			d.mu.Lock()
			defer d.mu.Unlock()
			d.credentials[registry+"/"+repository] = lookedFor{c, err}
			return c, err
		}
	}
	d.session = NewSession(opts)
	return d
}

// maxFinding is the length of a text in characters.
const maxFinding = 400

// tell reports a finding with texts that are fit for people.
func (d *diagnosis) tell(f Finding, public func(text string, limit int) string) {
	f.Text = public(f.Text, maxFinding)
	for name, value := range f.Details {
		f.Details[name] = public(value, maxFinding)
	}
	d.report(f)
}

// examineMirror is examine for a mirror, nil where a pull would not ask it. What
// the registry itself has found for the tag, if anything, is what is asked for.
func (d *diagnosis) examineMirror(ctx context.Context, at hosts.Endpoint, known string) *examination {
	asked := cmp.Or(d.reference.Digest.String(), known)
	skip := ""
	switch {
	case asked != "" && at.NoDigests:
		skip = "it is not asked for digests"
	case asked == "" && at.NoTags:
		skip = "it is not asked for tags"
	}
	if skip != "" {
		d.tell(Finding{Hop: HopMirror, Host: at.Registry, Mirror: mirrorName(at), Status: StatusSkipped, Text: sourced(skip, at.Source)}, oneline.Clean)
		return nil
	}
	return d.examine(ctx, at, mirrorName(at), asked)
}

func mirrorName(at hosts.Endpoint) string {
	return oneline.Clean(at.Registry+"/"+at.Repository, maxFinding)
}

// sourced is text with the file or flag that says so.
func sourced(text, source string) string {
	if source == "" {
		return text
	}
	return text + " (" + source + ")"
}

// examination walks the hops to a repository at one place: at the registry
// itself, or at a mirror.
type examination struct {
	*diagnosis
	at         hosts.Endpoint
	host       string
	mirror     string // empty at the registry itself
	repository *Repository
	client     *client
	watch      watch
	told       map[string]bool // hosts and proxies whose connection was reported
	skews      []skew          // of who has answered
	quota      http.Header     // of the answer that tells of a limit; nil for none
	stopped    string          // why hops are skipped

	digest string // of what the tag names, once that is known
	err    error  // what a pull would end with
}

// examine walks all hops to an endpoint, a mirror's where that has a name.
// asked is the digest that the manifest is asked for by, empty for the tag.
func (d *diagnosis) examine(ctx context.Context, at hosts.Endpoint, mirror, asked string) *examination {
	e := &examination{diagnosis: d, at: at, host: at.Registry, mirror: mirror, told: map[string]bool{}}
	if e.repository, e.err = d.session.OpenEndpoint(at); e.err != nil {
		e.fault(Finding{Hop: HopRoute, Text: e.err.Error(), Err: e.err})
		return e
	}
	defer func() { _ = e.repository.Close() }()
	e.client = e.repository.client
	e.host = e.client.host
	e.walk(e.watch.over(ctx), asked)
	return e
}

// found is the credential for this place, as far as it was looked for.
func (e *examination) found() lookedFor {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.credentials[e.at.Registry+"/"+e.at.Repository]
}

// walk goes from hop to hop.
func (e *examination) walk(ctx context.Context, asked string) {
	if e.ping(ctx) {
		if content, ok := e.manifest(ctx, asked); ok {
			e.blob(ctx, content)
		}
	}
	if ctx.Err() != nil {
		e.err = context.Cause(ctx)
		return
	}
	e.limit()
	e.clocks()
}

// tell reports a finding of this place.
func (e *examination) tell(f Finding) {
	f.Mirror, f.Host = e.mirror, cmp.Or(f.Host, e.host)
	if f.Status == StatusFault && f.Mirror != "" {
		f.Status = StatusWarning
	}
	public := oneline.Clean
	if e.client != nil {
		public = e.client.public // which knows the secrets
	}
	e.diagnosis.tell(f, public)
}

// fault reports a fault. The first one's error is what a pull ends with.
func (e *examination) fault(f Finding) {
	f.Status = StatusFault
	if e.err == nil {
		e.err = f.Err
	}
	e.stopped = "not reached, because of the fault at " + string(f.Hop)
	e.tell(f)
}

// skip reports hops that are not looked at.
func (e *examination) skip(why string, hops ...Hop) { e.skipOf(e.host, why, hops...) }

func (e *examination) skipOf(host, why string, hops ...Hop) {
	for _, hop := range hops {
		e.tell(Finding{Hop: hop, Host: host, Status: StatusSkipped, Text: why})
	}
}

// stop reports the hops behind one that failed as skipped.
func (e *examination) stop(at Hop) {
	later := []Hop{HopTLS, HopAPI, HopChallenge, HopCredential, HopRealm, HopToken, HopManifest, HopBlob, HopRanges}
	e.skip(e.stopped, later[slices.Index(later, at)+1:]...)
}
