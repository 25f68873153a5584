package verify

import (
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
)

// tree is what is checked, as files: the same for all formats.
type tree struct {
	// files are all that have content, in the order of the report.
	files []*file
	// find is the file of a name, through links where the format has any. The
	// error says why there is none, and wraps image.ErrNotFound where that is all.
	find func(name string) (*file, error)
	// blobs are the files by the digest that their names tell; layers are those
	// that may be layers, in most formats the same.
	blobs, layers map[digest.Digest]*file
	// cut is the name of the file within which the tar is cut off.
	cut string
	// broken says that the tar cannot be read to its end.
	broken bool
	// other says that it is no archive of images at all. Then it is broken too.
	other bool
	// kind is how the archive is compressed.
	kind compress.Kind
	// bytes is the size of all that is checked.
	bytes int64
	close func()
}

// file is one of its files. It is read once.
type file struct {
	name string
	size int64
	open func() (io.ReadCloser, error)
	// fault is why it cannot be read: a link in a directory, for example.
	fault string
	// claim is the digest that the name tells of the content; empty where it
	// tells none.
	claim digest.Digest
	// loose says that the claim may be the diffID as well, as in archives of
	// some tools, and that nobody but the name makes it.
	loose bool
	// expects are the diffIDs that configs tell of it.
	expects []expect
	// wanted says that somebody names the file.
	wanted bool
	// list says that it is no blob but a list of images, as index.json is.
	list bool
	// needs are the images that do.
	needs []string

	facts *facts
	// bad says that something is wrong with it.
	bad bool
}

// expect is a diffID that is expected of a layer.
type expect struct {
	diffID digest.Digest
	needs  string
}

// subject is what the file is called in problems.
func (f *file) subject() string {
	if f.claim != "" && !f.loose {
		return f.claim.String()
	}
	return f.name
}

// expect notes a diffID.
func (f *file) expect(diffID digest.Digest, needs string) {
	for _, e := range f.expects {
		if e.diffID == diffID {
			return
		}
	}
	f.expects = append(f.expects, expect{diffID, needs})
}

// need notes who names the file.
func (f *file) need(needs string) {
	f.wanted = true
	f.needs = appendNew(f.needs, needs)
}

// blobClaim reads a path of an image layout: blobs/ALGORITHM/HEX.
func blobClaim(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, "blobs/")
	if !ok {
		return "", false
	}
	algorithm, hex, _ := strings.Cut(rest, "/")
	return checked(algorithm, hex)
}

// looseClaim reads the names that archives give configs and layers: crane and
// skopeo put the digest of the blob or of its tar there.
func looseClaim(name string) (digest.Digest, bool) {
	if hex, ok := strings.CutPrefix(name, "sha256:"); ok {
		return checked("sha256", hex)
	}
	for _, end := range []string{".json", ".tar", ".tar.gz", ".tar.zst"} {
		if hex, ok := strings.CutSuffix(name, end); ok {
			return checked("sha256", hex)
		}
	}
	return "", false
}

// componentClaim reads the names of components: ALGORITHM_HEX and an ending.
func componentClaim(name string) (digest.Digest, bool) {
	algorithm, rest, _ := strings.Cut(strings.TrimPrefix(name, layersDir), "_")
	end := strings.IndexAny(rest, "._")
	if end < 0 {
		return "", false
	}
	return checked(algorithm, rest[:end])
}

func checked(algorithm, hex string) (digest.Digest, bool) {
	d := digest.Digest(algorithm + ":" + hex)
	return d, image.CheckDigest(d) == nil
}
