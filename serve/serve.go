// Package serve is a read-only registry over images on disk: the pull and the
// content discovery parts of the OCI distribution specification, and the
// catalog of Docker's API, as an http.Handler.
package serve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// From is one place that images are served from.
type From struct {
	// Store has the images. It stays the caller's, who closes it once nothing
	// is served any more.
	Store image.Store
	// Path is what messages call the store. The last of its names, without
	// .tar and the like, is the repository of images that have no name.
	Path string
	// Name is what its images are called in place of their own names: a
	// repository, in which they keep their tags, or, for the only image of a
	// store, a repository with a tag. Empty: their own names.
	Name string
}

// Options of New. The zero value works: everybody may pull.
type Options struct {
	// Username and Password are asked for (Basic) where either is there.
	Username, Password string
	// Stall is how long a client may need to take the next 32 KiB of what it
	// asked for before its connection is closed. 0 means DefaultStall.
	Stall time.Duration
	// Events receives warnings: what cannot be served as it seems, and what
	// goes wrong on our own side while it is served. May be nil.
	Events image.EventFunc
	// Access is called once for each request, at its end, from many goroutines
	// at once. May be nil.
	Access func(Access)
}

// DefaultStall is for Options.Stall.
const DefaultStall = 2 * time.Minute

// Access is one request and its answer. What the client sent is as it was sent:
// not fit for a terminal.
type Access struct {
	Remote string        // the client's host:port
	Method string        // GET
	URI    string        // the path, with the query
	Agent  string        // what the client says that it is
	Status int           // the answer's
	Bytes  int64         // of the answer's body that were sent
	Took   time.Duration // from the request to the answer's end
}

// Image is an image that is served.
type Image struct {
	// Repository and Tag are what clients ask for; there is no Tag where it is
	// served by digest only.
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest"`
	// Path is that of the store that has it.
	Path string `json:"path"`
}

// Reference is how clients write the image behind the registry's host.
func (i Image) Reference() string {
	if i.Tag != "" {
		return i.Repository + ":" + i.Tag
	}
	return i.Repository + "@" + i.Digest.String()
}

// Handler is the registry. It serves what the stores had when it was made.
type Handler struct {
	opts         Options
	user, secret [sha256.Size]byte
	repositories map[string]*repository
	byName       map[string]*repository // by full name, with the registry's: docker.io/library/alpine
	catalog      []string
	images       []Image
	verdicts     verdicts
}

var _ http.Handler = (*Handler)(nil)

// New reads what the stores' images consist of: every index and manifest, each
// verified, and where the blobs are that they name. What an index names and no
// store has is not served; that a layer is missing is a warning. Layers may
// stand in another of the stores than the manifest that names them.
//
// Names are the stores' own. An image docker.io/library/alpine:3.20 is in the
// repositories library/alpine and docker.io/library/alpine, so that docker pull
// HOST/library/alpine takes it, and registries.conf or hosts.toml may name the
// registry as a mirror of one or of several registries. Images of two registries
// that would have the same repository and tag in the short form are there by
// their long form only, which is a warning. A registry with a port has no long
// form, as a repository cannot have a colon. An image without a name is in a
// repository named after the store's path, under its tag if it has one, else
// latest if it is the store's only image, else by its digest. What refers to an
// image (OCI image-spec, "subject"; the referrers tag; cosign's tags) and has no
// name is in the image's repositories.
//
// Errors name the store. Two different images of the same name are a
// *CollisionError; a name that is none is ErrName; image.ErrVerification is
// where documents are not what they must be.
func New(ctx context.Context, from []From, opts Options) (*Handler, error) {
	opts.Stall = cmp.Or(opts.Stall, DefaultStall)
	h := &Handler{
		opts: opts,
		user: sha256.Sum256([]byte(opts.Username)), secret: sha256.Sum256([]byte(opts.Password)),
		repositories: map[string]*repository{},
		byName:       map[string]*repository{},
	}
	c := &collector{ctx: ctx, from: from, events: opts.Events, documents: map[digest.Digest]*document{}, blobs: map[blobKey]*blob{}}
	n := &naming{h: h, c: c}
	if err := n.all(); err != nil {
		return nil, err
	}
	for _, r := range h.repositories {
		r.finish()
	}
	return h, nil
}

// Images are those that are served, each by the name that is the shortest, in
// the order of the stores.
func (h *Handler) Images() []Image { return slices.Clone(h.images) }

// open says whether nobody is asked for a password.
func (h *Handler) open() bool { return h.opts.Username == "" && h.opts.Password == "" }
