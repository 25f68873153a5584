package image

import (
	"context"
	"io"
)

// Target takes images in: a repository in a registry, for example. Blobs go
// before the manifests that name them, and manifests before the indexes. Its
// methods may be called from many goroutines at once. Its errors name the step
// and whom it was asked of, and wrap ErrUnauthorized or ErrVerification where
// one of them is the cause.
type Target interface {
	// HasBlob tells whether the target has a blob. One that is there with
	// another size is an error that wraps ErrVerification.
	HasBlob(ctx context.Context, d Descriptor) (bool, error)
	// PushBlob gives a blob to the target, which verifies it. It reads content
	// once, in order, to its end, and as far as it must go back keeps some MiB
	// in memory. Content that is an io.ReaderAt as well, as a file's section is,
	// is read as often as need be, and not kept; one that is an io.Seeker is
	// read from its start again where the target has lost what it had. Where
	// that would be needed and cannot be, or retries were in vain, the error is
	// a RetryError: the same blob may be pushed anew.
	PushBlob(ctx context.Context, d Descriptor, content io.Reader) error
	// PushManifest gives the bytes of a manifest or index to the target, under
	// a tag or, where that is empty, under their digest alone.
	PushManifest(ctx context.Context, c Content, tag string) (PushedManifest, error)
}

// PushedManifest is what a target tells of a manifest that it took.
type PushedManifest struct {
	// SubjectKnown says that the target lists the manifest with its subject's
	// referrers. Where it does not, and there is a subject, whoever pushes is to
	// keep that list under a tag (OCI distribution-spec, "Pushing Manifests with
	// Subject").
	SubjectKnown bool
}

// Mounter is a Target that can take a blob from another repository that it
// knows of.
type Mounter interface {
	// MountBlob tells whether the blob is the target's now. A target that does
	// not do it, or does not find the blob in from, is no error.
	MountBlob(ctx context.Context, d Descriptor, from Source) (bool, error)
}
