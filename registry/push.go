package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// pushes are what a repository keeps for what is pushed to it. The zero value
// works.
type pushes struct {
	mu     sync.Mutex
	auth   *authorizer
	mounts map[string]*mount // by the other repository's name
	opened map[digest.Digest]session

	listing sync.Mutex // held while an index of referrers is read and written
}

// mount is another repository that blobs are mounted from.
type mount struct {
	auth    *authorizer
	refused bool // by the registry, which is not asked again
}

// pushAuth answers challenges to what is pushed. It stands beside the
// repository's own, so that what is read is asked for without a right to push,
// and never goes on without a credential.
func (r *Repository) pushAuth() *authorizer {
	r.pushes.mu.Lock()
	defer r.pushes.mu.Unlock()
	if r.pushes.auth == nil {
		r.pushes.auth = r.newPushAuth("")
	}
	return r.pushes.auth
}

// newPushAuth answers challenges to pushes that take from another repository.
func (r *Repository) newPushAuth(from string) *authorizer {
	return &authorizer{
		client: r.client, registry: r.auth.registry, repository: r.auth.repository,
		strict: true, pushes: true, from: from, like: r.auth,
	}
}

// widen is the challenge that stands for what a does: some registries name the
// scope of the request alone, and some that of pulling whatever it is.
func (a *authorizer) widen(c challenge) challenge {
	scopes := strings.Fields(c.params["scope"])
	if !a.pushes || c.scheme != "bearer" || len(scopes) == 0 {
		return c
	}
	prefix := "repository:" + a.repository + ":"
	other := a.from == ""
	for i, scope := range scopes {
		actions, mine := strings.CutPrefix(scope, prefix)
		if mine && !strings.Contains(actions, "push") && actions != "*" {
			scopes[i] = prefix + actions + ",push"
		}
		other = other || strings.HasPrefix(scope, "repository:"+a.from+":")
	}
	if !other {
		scopes = append(scopes, "repository:"+a.from+":pull")
	}
	return c.withScope(strings.Join(scopes, " "))
}

// pushTo is a path on the registry, for a request that pushes.
func (r *Repository) pushTo(path string, auth *authorizer) location {
	at := r.client.registryURL(path, auth)
	at.push = true
	return at
}

// HasBlob tells whether the repository has a blob, by a HEAD (OCI
// distribution-spec, "Checking if content exists in the registry"), with
// retries of what may pass and with the right to push: it is what comes before
// that. Where the HEAD is refused as if for the method, a GET of the first byte
// tells. Errors wrap image.ErrVerification where the registry has it with
// another size, image.ErrUnauthorized or a sentinel of this package, or are
// ctx's own.
func (r *Repository) HasBlob(ctx context.Context, d image.Descriptor) (bool, error) {
	if _, err := r.blobStep(d); err != nil {
		return false, err
	}
	step := "look for blob " + r.name + "@" + d.Digest.String()
	where := r.client.registryURL(r.blobPath(d.Digest.String()), r.pushAuth())
	resp, err := r.head(ctx, step, where, blobHeader(), false)
	var size int64
	switch {
	case err == nil:
		size = resp.ContentLength
		if resp.Header.Get("Content-Encoding") != "" || size == 0 {
			size = -1 // not the blob's, or not told
		}
		told := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
		if image.CheckDigest(told) == nil {
			if err := checkTold(told, d.Digest); err != nil {
				return false, fmt.Errorf("%s from %s: %w", step, resp.Request.URL.Host, err)
			}
		}
	case ctx.Err() != nil:
		return false, err
	case r.meansAbsent(err, step):
		return false, nil
	case r.mayBeOfMethod(err, step):
		err = r.client.retry(ctx, func() error {
			size, err = r.sizeByGET(ctx, d.Digest)
			return err
		})
		if errors.Is(err, image.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	default:
		return false, err
	}
	if size >= 0 && size != d.Size {
		return false, fmt.Errorf("%s from %s: %w: it has one of %d bytes, not %d", step, r.client.host, image.ErrVerification, size, d.Size)
	}
	return true, nil
}

// meansAbsent tells whether the refusal of a HEAD, in a step, says that the
// registry has no such blob.
func (r *Repository) meansAbsent(err error, step string) bool {
	var e *Error
	return errors.As(err, &e) && e.Step == step && strings.EqualFold(e.Host, r.client.host) &&
		(e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}

// MountBlob makes a blob of another repository on the same registry this one's
// (OCI distribution-spec, "Mounting a blob from another repository"). It is
// false where from is none such, and where the registry does not do it: what
// it says against pushing at all, PushBlob hears as well. The session that a
// registry opens instead is used by the next PushBlob of the blob. Errors are
// those of requests that may pass, after retries, or wrap
// image.ErrVerification, or are ctx's own.
func (r *Repository) MountBlob(ctx context.Context, d image.Descriptor, from image.Source) (bool, error) {
	if err := image.CheckDigest(d.Digest); err != nil {
		return false, fmt.Errorf("push blob to %s: %w", r.name, err)
	}
	other, ok := from.(*Repository)
	if !ok || !strings.EqualFold(other.client.host, r.client.host) || other.name == r.name {
		return false, nil
	}
	m := r.mountFrom(other.name)
	if m == nil {
		return false, nil
	}
	step := "push blob " + r.name + "@" + d.Digest.String() + " by a mount of " + other.name + "'s"
	var resp *http.Response
	var at location
	err := r.client.retry(ctx, func() error {
		where := r.pushTo(r.uploadsPath(), m.auth)
		where.url.RawQuery = url.Values{"mount": {d.Digest.String()}, "from": {other.name}}.Encode()
		var err error
		resp, at, err = r.client.push(ctx, step, http.MethodPost, where, nil, nil, answerTime)
		return err
	})
	if status := statusOf(err); status/100 == 4 && !mayPass(status) || status == http.StatusNotImplemented {
		r.client.opts.Events.Send(image.Event{Kind: image.EventStep, Text: err.Error()})
		r.pushes.mu.Lock()
		defer r.pushes.mu.Unlock()
		m.refused = m.refused || status != http.StatusNotFound
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if resp.StatusCode == http.StatusCreated {
		return true, r.client.checkTaken(step, resp, d.Digest)
	}
	if opened, err := r.client.newSession(step, resp, at); err == nil {
		if opened.at.auth != nil {
			opened.at.auth = r.pushAuth()
		}
		r.pushes.mu.Lock()
		defer r.pushes.mu.Unlock()
		if r.pushes.opened == nil {
			r.pushes.opened = map[digest.Digest]session{}
		}
		r.pushes.opened[d.Digest] = opened
	}
	return false, nil
}

// mountFrom is the way to mount from another repository; nil where the registry
// has refused it.
func (r *Repository) mountFrom(name string) *mount {
	r.pushes.mu.Lock()
	defer r.pushes.mu.Unlock()
	m := r.pushes.mounts[name]
	if m == nil {
		if r.pushes.mounts == nil {
			r.pushes.mounts = map[string]*mount{}
		}
		m = &mount{auth: r.newPushAuth(name)}
		if known := r.pushes.auth; known != nil {
			m.auth.met = known.expected(m.auth)
		}
		r.pushes.mounts[name] = m
	}
	if m.refused {
		return nil
	}
	return m
}

// expected is the challenge that another authorizer is likely to meet; nil
// where a has met none.
func (a *authorizer) expected(other *authorizer) *challenge {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.met == nil {
		return nil
	}
	c := other.widen(*a.met)
	return &c
}

// PushManifest puts the exact bytes of a manifest or index into the repository
// (OCI distribution-spec, "Pushing Manifests"): under a tag, or by their digest
// where tag is empty, with retries of what may pass. Errors wrap
// image.ErrVerification where the bytes have not the descriptor's digest, or the
// registry tells another one of what it took; image.ErrUnauthorized; or a
// sentinel of this package; or are ctx's own.
func (r *Repository) PushManifest(ctx context.Context, c image.Content, tag string) (image.PushedManifest, error) {
	name := tag
	switch err := image.CheckDigest(c.Digest); {
	case err != nil:
		return image.PushedManifest{}, fmt.Errorf("push manifest to %s: %w", r.name, err)
	case tag == "":
		name = c.Digest.String()
	case !ref.ValidTag(tag):
		return image.PushedManifest{}, fmt.Errorf("push manifest to %s: %q is no tag", r.name, oneline.Clean(tag, 128))
	}
	step := "push manifest " + r.name + ":" + name
	if tag == "" {
		step = "push manifest " + r.name + "@" + name
	}
	if actual := c.Digest.Algorithm().FromBytes(c.Bytes); actual != c.Digest {
		return image.PushedManifest{}, fmt.Errorf("%s: %w: its bytes have the digest %s, not %s", step, image.ErrVerification, actual, c.Digest)
	}
	header := http.Header{"Content-Type": {c.MediaType}}
	var resp *http.Response
	err := r.client.retry(ctx, func() error {
		var err error
		resp, _, err = r.client.push(ctx, step, http.MethodPut, r.pushTo("/v2/"+r.name+"/manifests/"+name, r.pushAuth()),
			header, bytesPayload(c.Bytes), commitTime)
		return err
	})
	if err != nil {
		return image.PushedManifest{}, err
	}
	told := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if image.CheckDigest(told) == nil {
		if actual := told.Algorithm().FromBytes(c.Bytes); actual != told {
			return image.PushedManifest{}, fmt.Errorf("%s to %s: %w: it says that it took %s, not %s", step, resp.Request.URL.Host, image.ErrVerification, told, actual)
		}
	}
	return image.PushedManifest{SubjectKnown: resp.Header.Get("OCI-Subject") != ""}, nil
}

// checkTaken says whether the digest that a registry tells of a blob that it
// took, if any, is the blob's. The error wraps image.ErrVerification.
func (c *client) checkTaken(step string, resp *http.Response, d digest.Digest) error {
	told := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if image.CheckDigest(told) == nil && told != d && told.Algorithm() == d.Algorithm() {
		return fmt.Errorf("%s to %s: %w: it says that it took %s", step, resp.Request.URL.Host, image.ErrVerification, told)
	}
	return nil
}

func (r *Repository) uploadsPath() string { return "/v2/" + r.name + "/blobs/uploads/" }
