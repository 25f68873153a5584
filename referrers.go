package davit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Referrer is what refers to an image.
type Referrer struct {
	Digest digest.Digest `json:"digest"`
	// Kind is signature, SBOM, attestation or artifact.
	Kind string `json:"kind"`
	// Types are what says so: the artifact type, or the predicate types of
	// attestations.
	Types []string `json:"types,omitempty"`
	Size  int64    `json:"size"`
	// Subject is what it refers to, the image's index or its manifest.
	Subject     digest.Digest     `json:"subject"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// referrers are those that the source knows, of the image's root and of its
// manifest, and the attestations that its indexes name. What is not to be had
// is a warning.
func (l *look) referrers(ctx context.Context, img image.Image) []Referrer {
	subjects := []digest.Digest{img.Root().Digest}
	if m := img.Manifests[0].Digest; m != subjects[0] {
		subjects = append(subjects, m)
	}
	found, errs := make([][]image.Descriptor, len(subjects)), make([]error, len(subjects))
	var asking sync.WaitGroup
	for i, subject := range subjects {
		asking.Go(func() { found[i], errs[i] = l.source.Referrers(ctx, subject) })
	}
	asking.Wait()
	var all []Referrer
	for i, subject := range subjects {
		if err := errs[i]; err != nil {
			if ctx.Err() == nil {
				l.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("not known what refers to the image: %v", err)})
			}
			break
		}
		for _, d := range found[i] {
			all = append(all, newReferrer(d, subject))
		}
	}
	return append(all, l.attestations(ctx, img)...)
}

func newReferrer(d image.Descriptor, subject digest.Digest) Referrer {
	r := Referrer{Digest: d.Digest, Size: d.Size, Subject: subject, Annotations: d.Annotations}
	for _, t := range []string{d.ArtifactType, d.Annotations["dev.sigstore.bundle.predicateType"], d.Annotations["predicateType"]} {
		if t != "" {
			r.Types = append(r.Types, t)
		}
	}
	r.Kind = kindOf(r.Types)
	return r
}

// kindOf tells what a referrer is by its types.
func kindOf(types []string) string {
	all := strings.ToLower(strings.Join(types, " "))
	for _, k := range []struct{ kind, words string }{
		{"SBOM", "spdx cyclonedx syft sbom"},
		{"attestation", "in-toto slsa attestation provenance predicate .att. dsse"},
		{"signature", "signature cosign notary simplesigning sigstore .sig."},
	} {
		if slices.ContainsFunc(strings.Fields(k.words), func(word string) bool { return strings.Contains(all, word) }) {
			return k.kind
		}
	}
	return "artifact"
}

// maxPredicates is of how many attestations the manifests are fetched: builders
// make one for a manifest.
const maxPredicates = 8

// attestations are the manifests in the image's indexes that tell about the
// build of its manifest (buildkit's provenance and SBOMs).
func (l *look) attestations(ctx context.Context, img image.Image) []Referrer {
	var all []Referrer
	m := img.Manifests[0].Digest
	for _, content := range img.Indexes {
		index, err := image.ParseIndex(content)
		if err != nil {
			continue // Resolve has read it: it cannot be
		}
		for _, d := range index.Manifests {
			if !image.IsAttestation(d) || d.Annotations["vnd.docker.reference.digest"] != m.String() {
				continue
			}
			r := Referrer{Digest: d.Digest, Size: d.Size, Subject: m}
			if len(all) < maxPredicates {
				r.Types = l.predicates(ctx, d)
			}
			r.Kind = kindOf(append(r.Types, "attestation"))
			all = append(all, r)
		}
	}
	return all
}

// predicates are the types of an attestation's statements, where its manifest
// can be had.
func (l *look) predicates(ctx context.Context, d image.Descriptor) []string {
	c, err := l.fetchManifest(ctx, d)
	if err != nil {
		return nil
	}
	m, err := image.ParseManifest(c)
	if err != nil {
		return nil
	}
	var types []string
	for _, layer := range m.Layers {
		if t := cmp.Or(layer.Annotations["in-toto.io/predicate-type"], layer.MediaType); !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types
}
