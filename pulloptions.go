package davit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// PullOptions tell Pull what to take and where to put it. The zero value
// works: this machine's architecture on linux, as an archive, into the default
// file.
type PullOptions struct {
	// Platforms are os/arch[/variant], arch alone, or windows(version)/arch;
	// or "all" alone. None: linux on this machine's architecture. With several
	// the index is kept, and the first is the one for loaders that know only
	// one; of all, linux/amd64 is.
	Platforms []string
	// TrimIndex drops from the index that is kept what was not taken. Its
	// digest is another one then.
	TrimIndex bool
	// Format is what to write. "": Archive.
	Format Format
	// Output is the path to write; missing parent directories are made.
	// Empty, for one image: a name made of repository and tag, in the current
	// directory.
	Output string
	// Stream receives the output in place of a file, in order, without
	// resume. Archive and Rootfs have it.
	Stream io.Writer
	// Tag is another name for the image where it goes. Archive and OCI have it.
	Tag string
	// Layers, Gzip or None, re-encodes the layers of an Archive or OCI. The
	// manifest's digest is another one then, the image ID stays.
	Layers Compression
	// ManifestOnly leaves the layers out of Components.
	ManifestOnly bool
	// Compress is how a Rootfs is compressed. "": as its name ends.
	Compress Compression
	// Split is the size in bytes of the parts in which an Archive is written: as
	// Output.001, Output.002 and so on, with their checksums in Output.sha256. At
	// least MinSplit; there are 999 parts at most, and one at least. 0: one file.
	Split int64
	// Level is how hard Compress and Layers try: gzip's 1 to 9, zstd's 1 to
	// 19. 0: the fastest.
	Level int
	// SaveConfig is a file for the config of the image that is written as
	// Rootfs or Files, not in the output; missing parent directories are made.
	SaveConfig string
	// NoForeign leaves out the layers that have URLs where they stand, so that
	// their registry need not hold them, with a warning that says how many they
	// are. Manifests name them still, byte for byte. A Rootfs or Files is what
	// the other layers make.
	NoForeign bool
	// Referrers takes along what refers to the images, as CopyOptions has it.
	// Archive and OCI have it: as further images, which loaders pass over.
	Referrers bool
	// Since names bases: what the other side has already. Layers that one has
	// are left out of an Archive or OCI layout, which is a delta then, and says
	// in index.json which base has them; configs and manifests are always there.
	// Apply makes it whole. A base is a Location, on disk where that may be meant:
	// an archive, a layout or a directory of components, all of whose blobs count;
	// or an image in a registry, whose manifests' blobs do, of all platforms. Or it
	// is a text file that lists digests of blobs, one a line: alone, behind NAME@,
	// or as sha256sum writes them, with comments that begin with #. Of a base that
	// is a delta, the blobs that it has left out count too. What a base has is
	// found by name and size; its bytes are not hashed.
	Since []string
	// KeepGoing writes what of several images can be had.
	KeepGoing bool
	// Restart discards what an earlier, unfinished pull has left.
	Restart bool
	// Registry tells how the registries are reached.
	Registry registry.Options
	// Transfer tunes the engine.
	Transfer transfer.Options
	// Events receives progress, warnings and steps. May be nil. It is also
	// used for Registry and Transfer where they have none.
	Events image.EventFunc
}

// withDefaults also sends the events of all rooms to the one receiver, where
// they have none of their own.
func (o PullOptions) withDefaults() PullOptions {
	if o.Format == "" {
		o.Format = Archive
	}
	if o.Registry.Events == nil {
		o.Registry.Events = o.Events
	}
	if o.Transfer.Events == nil {
		o.Transfer.Events = o.Events
	}
	if o.Transfer.Verdicts == nil {
		o.Transfer.Verdicts = new(transfer.Verdicts)
	}
	return o
}

// Validate refuses options that contradict each other, for a pull of so many
// images. PullAll does so before it makes any request.
func (o PullOptions) Validate(images int) error {
	o = o.withDefaults()
	platforms, err := image.ParsePlatforms(o.Platforms...)
	if err != nil {
		return err
	}
	several := images > 1
	flat := o.Format == Rootfs || o.Format == Files
	carried := o.Format == Archive || o.Format == OCI
	switch {
	case !slices.Contains(Formats(), o.Format):
		return fmt.Errorf("there is no format %q", string(o.Format))
	case images == 0:
		return errors.New("no image is named")
	case several && !carried:
		return fmt.Errorf("format %s takes one image at a time, not %d", o.Format, images)
	case o.checkSplit() != nil:
		return o.checkSplit()
	case several && o.Output == "" && o.Stream == nil:
		return errors.New("several images need an output with a name")
	case several && o.Tag != "":
		return errors.New("a tag is for one image, not for several")
	case o.Tag != "" && !carried:
		return fmt.Errorf("format %s has no name for the image, so no use for a tag", o.Format)
	case flat && (platforms.All || len(platforms.List) > 1):
		return fmt.Errorf("format %s takes one platform at a time", o.Format)
	case o.TrimIndex && !carried:
		return fmt.Errorf("format %s has no index that could be trimmed", o.Format)
	case o.Stream != nil && o.Format != Archive && o.Format != Rootfs:
		return fmt.Errorf("format %s is a directory and cannot be streamed", o.Format)
	case o.Referrers && !carried:
		return fmt.Errorf("format %s has no place for referrers: archive and oci have", o.Format)
	case o.Referrers && o.Layers != "":
		return errReferring
	case len(o.Since) > 0 && !carried:
		return fmt.Errorf("format %s has no layers that could be left out", o.Format)
	case len(o.Since) > 0 && o.Layers != "":
		return errors.New("layers that are re-encoded are not those that a base has: since and layers exclude each other")
	case o.Layers != "" && !carried:
		return fmt.Errorf("format %s has no layers to re-encode", o.Format)
	case o.Layers != "" && o.Layers != Gzip && o.Layers != None:
		return fmt.Errorf("layers are re-encoded as gzip or none, not as %q", string(o.Layers))
	case o.Compress != "" && o.Format != Rootfs:
		return fmt.Errorf("format %s is not compressed as a whole", o.Format)
	case o.Compress != "" && !slices.Contains([]Compression{None, Gzip, Zstd}, o.Compress):
		return fmt.Errorf("there is no compression %q: want none, gzip or zstd", string(o.Compress))
	case o.Format == Rootfs && o.Compress == "" && !writable(o.Output):
		return fmt.Errorf("write %s: there is no compression %s: want a name that ends with .tar, .tar.gz or .tar.zst", o.Output, suffix(o.Output))
	case o.SaveConfig != "" && !flat:
		return fmt.Errorf("format %s has the config in it already: it is saved beside rootfs and files", o.Format)
	case o.ManifestOnly && o.Format != Components:
		return fmt.Errorf("format %s needs the layers: only components go without", o.Format)
	}
	return cmp.Or(o.checkSaveConfig(o.Output), o.checkLevel())
}

// directory says whether the format is a directory.
func (o PullOptions) directory() bool {
	return slices.Contains([]Format{OCI, Components, Files}, o.Format)
}

// checkLevel refuses a level that the compression does not have.
func (o PullOptions) checkLevel() error {
	compression, most := o.Compress, 9
	switch {
	case o.Layers != "":
		compression = o.Layers
	case o.Format == Rootfs && compression == "" && o.Output != "":
		compression = CompressionOf(o.Output)
	case o.Format == Rootfs && compression == "":
		compression = Gzip
	}
	if compression == Zstd {
		most = 19
	}
	switch {
	case o.Level == 0:
		return nil
	case compression == "" || compression == None:
		return errors.New("a level is for what is compressed: layers re-encoded as gzip, or a rootfs as gzip or zstd")
	case o.Level < 1 || o.Level > most:
		return fmt.Errorf("%s has levels 1 to %d, not %d", compression, most, o.Level)
	}
	return nil
}
