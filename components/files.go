package components

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// What names end with, behind a digest.
const (
	indexSuffix    = "_manifest_list.json"
	manifestSuffix = "_manifest.json"
	configSuffix   = ".json"
)

// extensions are what layers' names end with.
var extensions = []string{".tar.gz", ".tar.zst", ".tar", otherExtension}

// otherExtension is for what is no tar, or one that davit does not know.
const otherExtension = ".blob"

// fileName is a digest as names of files have it.
func fileName(d digest.Digest) string { return d.Algorithm().String() + "_" + d.Encoded() }

// A File is one whose name tells its digest: a config, a layer, or what an
// index names. The root's name tells none.
type File struct {
	// Name is the file's path below the directory, with slashes.
	Name string
	// Digest is what its name says, which is well formed and not verified.
	Digest digest.Digest
}

// Files are the files of the directory whose names tell digests, documents
// before layers, by name. Nothing of them is read: each may also be a link, or
// a directory, which OpenFile refuses.
func (r *Reader) Files() ([]File, error) {
	var files []File
	for _, dir := range []struct {
		name     string
		suffixes []string
	}{
		{".", []string{indexSuffix, manifestSuffix, configSuffix}},
		{layersName, extensions},
	} {
		names, err := r.files.Names(dir.name)
		if err != nil {
			return nil, fmt.Errorf("list components: %w", err)
		}
		for _, name := range names {
			if d, ok := digestIn(name, dir.suffixes); ok {
				files = append(files, File{path.Join(dir.name, name), d})
			}
		}
	}
	return files, nil
}

// digestIn is the digest that a name tells.
func digestIn(name string, suffixes []string) (digest.Digest, bool) {
	for _, suffix := range suffixes {
		encoded, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		d := digest.Digest(strings.Replace(encoded, "_", ":", 1))
		if image.CheckDigest(d) == nil {
			return d, true
		}
	}
	return "", false
}

// OpenFile opens one of Files whole and tells its size in bytes. Nothing of it
// is verified; what is no regular file is an error that wraps
// image.ErrVerification. The caller closes it; reads end with ctx.
func (r *Reader) OpenFile(ctx context.Context, f File) (body io.ReadCloser, size int64, err error) {
	size, err = r.files.Size(f.Name)
	if err != nil {
		return nil, 0, err
	}
	rng, err := r.files.OpenRange(ctx, f.Name, image.Descriptor{Size: size}, 0, size)
	if err != nil {
		return nil, 0, err
	}
	return rng.Body, size, nil
}
