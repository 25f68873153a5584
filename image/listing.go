package image

import "context"

// Listing is what a reference names and all manifests below it, of every
// platform, before any of them is fetched.
type Listing struct {
	Root Content
	// Manifests are the manifest itself, or those of the index and of indexes
	// within it, each once, in their order. Platform is there where an index
	// tells it.
	Manifests []Descriptor
}

// List finds the manifests of all platforms, and fetches indexes only.
func (f *Finder) List(ctx context.Context) (Listing, error) {
	return search(ctx, f, Platforms{All: true}, (*resolver).list)
}

func (v *resolver) list(ctx context.Context) (Listing, error) {
	root, err := v.fetchRoot(ctx)
	if err != nil {
		return Listing{}, err
	}
	chosen, err := v.choose(ctx, root)
	l := Listing{Root: root}
	for _, c := range chosen {
		l.Manifests = append(l.Manifests, c.Descriptor)
	}
	return l, err
}

// IsAttestation says whether an index's descriptor is of a manifest that tells
// about the build of another one.
func IsAttestation(d Descriptor) bool { return isAttestation(d) }
