package archive

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// readLayout reads index.json. Names that it leaves out are taken from
// manifest.json, if docker says that it is there.
func (r *Reader) readLayout(docker bool) error {
	b, err := r.document(ocispec.ImageIndexFile, image.MaxManifestSize)
	if err != nil {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	index, err := image.ParseIndex(image.Content{Bytes: b})
	if err != nil {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	if r.delta, err = image.ParseDelta(index.Annotations); err != nil {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	r.listed = map[digest.Digest]image.Descriptor{}
	nameless := false
	for _, d := range index.Manifests {
		if known, met := r.listed[d.Digest]; met && known.Size != d.Size {
			return fmt.Errorf("read %s: %w: %s has two sizes: %d and %d", ocispec.ImageIndexFile, image.ErrVerification, d.Digest, known.Size, d.Size)
		} else if !met {
			r.listed[d.Digest] = d
		}
		s := image.StoredOf(d)
		nameless = nameless || s.Name == "" && s.Subject == ""
		r.images = append(r.images, s)
	}
	if nameless && docker {
		r.nameByDocker()
	}
	return nil
}

// maxNamed is how many documents are read to find out which image of
// manifest.json an entry of index.json is.
const maxNamed = 256

// nameByDocker gives images without a name those of manifest.json, of the image
// that has the same config; one with several becomes several. A name that is
// given already is not given twice. As names are all that it is for, what is
// wrong with that file or a manifest is passed over.
func (r *Reader) nameByDocker() {
	b, err := r.document(dockerManifest, maxDockerManifest)
	if err != nil {
		return
	}
	listed, err := ReadDockerManifest(b)
	if err != nil {
		return
	}
	names := map[digest.Digest][]string{} // of a config
	for _, img := range listed {
		for _, tag := range img.RepoTags {
			if name := nameOfTag(tag); name != "" {
				names[blobDigest(img.Config)] = append(names[blobDigest(img.Config)], name)
			}
		}
	}
	taken := map[string]bool{}
	for _, s := range r.images {
		taken[s.Name] = true
	}
	var named []image.Stored
	budget := maxNamed
	for _, s := range r.images {
		before := len(named)
		if s.Name == "" && s.Subject == "" {
			for _, config := range r.configs(s.Descriptor, &budget) {
				for _, name := range names[config] {
					if !taken[name] {
						taken[name] = true
						s.Name = name
						named = append(named, s)
					}
				}
			}
		}
		if len(named) == before {
			named = append(named, s)
		}
	}
	r.images = named
}

// configs are the digests of the configs of a manifest, or of an index's
// manifests, as far as they are there.
func (r *Reader) configs(d image.Descriptor, budget *int) []digest.Digest {
	if *budget--; *budget < 0 {
		return nil
	}
	c, err := r.manifest(d.Digest)
	if err != nil {
		return nil
	}
	if m, err := image.ParseManifest(c); err == nil {
		return []digest.Digest{m.Config.Digest}
	}
	index, err := image.ParseIndex(c)
	if err != nil {
		return nil
	}
	var configs []digest.Digest
	for _, child := range index.Manifests {
		if !image.IsIndex(child.MediaType) {
			configs = append(configs, r.configs(child, budget)...)
		}
	}
	return configs
}

// blobDigest is the digest of a blob's path in an image layout; of another
// path it is empty.
func blobDigest(name string) digest.Digest {
	rest, _ := strings.CutPrefix(name, "blobs/")
	d := digest.Digest(strings.Replace(rest, "/", ":", 1))
	if image.CheckDigest(d) != nil || blobName(d) != name {
		return ""
	}
	return d
}
