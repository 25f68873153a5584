package image

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
)

// DefaultPlatform is linux on this machine's architecture, whatever its
// operating system, since linux images are what runs in containers there too.
// On 32-bit ARM it has the processor's variant.
func DefaultPlatform() Platform {
	host := platforms.DefaultSpec()
	p := Platform{OS: "linux", Architecture: host.Architecture}
	if p.Architecture == "arm" {
		p.Variant = host.Variant
	}
	return normalize(p)
}

// ParsePlatform reads a platform as people write it: os/arch, os/arch/variant,
// an architecture alone or with its variant (arm64, arm/v7: on linux,
// whatever this machine runs), an operating system alone (on this machine's
// architecture), windows(10.0.17763)/amd64. Names are normalised as containerd
// does: aarch64 and arm64/v8 are arm64. The variant is empty where none was
// written, which lets ChoosePlatform take the only one there is.
func ParsePlatform(s string) (Platform, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Platform{}, errors.New("invalid platform: it is empty: write os/arch or os/arch/variant, such as linux/amd64")
	}
	spec := s
	if first, _, _ := strings.Cut(s, "/"); isArchitecture(first) && strings.Count(s, "/") < 2 {
		spec = "linux/" + s
	}
	p, err := platforms.Parse(spec)
	if err != nil || p.OS == "" || p.Architecture == "" || isUnknown(p) {
		return Platform{}, fmt.Errorf("invalid platform %q: write os/arch or os/arch/variant, such as linux/amd64, linux/arm/v7 or windows(10.0.17763)/amd64", clean(s))
	}
	variant := p.Variant
	p = normalize(p)
	if variant == "" {
		p.Variant = "" // containerd's normal form of arm is arm/v7
	}
	return p, nil
}

// Platforms are those that are wanted of an image. The zero value is this
// machine's, see DefaultPlatform.
type Platforms struct {
	// List are the wanted platforms, the most important first.
	List []Platform
	// All wants every manifest, attestations too.
	All bool
	// Present leaves out, of all, those that the source does not have though its
	// indexes name them, as a Store may.
	Present bool
}

// AllPlatforms is the word that stands for every platform.
const AllPlatforms = "all"

// ParsePlatforms reads platforms as ParsePlatform does, or "all" alone.
func ParsePlatforms(values ...string) (Platforms, error) {
	var p Platforms
	for _, value := range values {
		if strings.TrimSpace(value) == AllPlatforms {
			p.All = true
			continue
		}
		platform, err := ParsePlatform(value)
		if err != nil {
			return Platforms{}, err
		}
		p.List = append(p.List, platform)
	}
	if p.All && len(values) > 1 {
		return Platforms{}, errors.New("invalid platform: \"all\" stands alone")
	}
	return p, nil
}

// several says whether more than one is wanted, so that an index is wanted too.
func (p Platforms) several() bool { return p.All || len(p.List) > 1 }

// isArchitecture says whether containerd takes s alone for an architecture.
func isArchitecture(s string) bool {
	p, err := platforms.Parse(s)
	if err != nil {
		return false
	}
	name, _, _ := strings.Cut(s, "(")
	return platforms.Normalize(Platform{OS: name}).OS != p.OS
}

// A registry may say what it likes: of a word of a platform so many characters
// are taken, and so many features, and an error lists so many platforms.
const (
	maxWord     = 64
	maxFeatures = 8
	maxListed   = 100
)

// FormatPlatform is the platform as ParsePlatform reads it, with os.version
// and os.features where they are set. Only letters, digits, '.', '_' and '-'
// of each part are left, since what a registry says may end up in a shell, and
// only so many.
func FormatPlatform(p Platform) string {
	p = Platform{
		OS:           word(p.OS),
		OSVersion:    word(p.OSVersion),
		Architecture: word(p.Architecture),
		Variant:      word(p.Variant),
		OSFeatures:   slices.Clone(p.OSFeatures[:min(len(p.OSFeatures), maxFeatures)]),
	}
	for i, f := range p.OSFeatures {
		p.OSFeatures[i] = word(f)
	}
	return platforms.FormatAll(p)
}

func word(s string) string {
	s = s[:min(len(s), maxWord)]
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("._-", c) {
			return c
		}
		return -1
	}, clean(s))
}

// normalize is containerd's normal form, but leaves an unnamed operating
// system unnamed (containerd names this machine's).
func normalize(p Platform) Platform {
	os := p.OS
	p = platforms.Normalize(p)
	if os == "" {
		p.OS = ""
	}
	return p
}

// ChoosePlatform chooses the manifest (or nested index) of one platform from
// an index. The rule:
//
//   - Attestations, descriptors of unknown/unknown, and what is neither a
//     manifest nor an index are not there at all.
//   - Where one descriptor is left and it tells no platform, it is the one;
//     the config tells its platform later. Others without platform are passed over.
//   - What has the wanted operating system, architecture and variant in
//     containerd's normal form matches: arm is arm/v7, arm64 is arm64/v8, amd64
//     is amd64/v1. Where os.version is wanted, it must be the wanted one or
//     begin with it (10.0.17763 takes 10.0.17763.6414); where os.features are
//     wanted, they must be the same.
//   - Where nothing matches and no variant is wanted, any variant matches.
//   - Of several that differ in compression alone (podman marks zstd by an
//     annotation), the zstd ones are passed over: not every loader reads them.
//   - One digest counts once. Exactly one match is chosen; none or several are
//     a *PlatformError.
func ChoosePlatform(manifests []Descriptor, want Platform) (Descriptor, error) {
	var all []Descriptor // those that tell a platform
	bare, count := Descriptor{}, 0
	for _, d := range manifests {
		if isAttestation(d) || d.MediaType != "" && !IsIndex(d.MediaType) && !IsManifest(d.MediaType) {
			continue
		}
		count++
		if hasPlatform(d) {
			all = append(all, d)
		} else {
			bare = d
		}
	}
	if count == 1 && len(all) == 0 {
		return bare, nil
	}
	all = distinct(all)

	matches := matching(all, want, true)
	if len(matches) == 0 && want.Variant == "" {
		matches = matching(all, want, false)
	}
	switch matches = withoutZstd(matches); len(matches) {
	case 0:
		return Descriptor{}, &PlatformError{Want: want, Available: sorted(all)}
	case 1:
		return matches[0], nil
	default:
		return Descriptor{}, &PlatformError{Want: want, Available: sorted(matches), Several: true}
	}
}

func hasPlatform(d Descriptor) bool {
	return d.Platform != nil && d.Platform.OS != "" && d.Platform.Architecture != ""
}

func isUnknown(p Platform) bool {
	return strings.EqualFold(p.OS, "unknown") || strings.EqualFold(p.Architecture, "unknown")
}

func isAttestation(d Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" || d.Platform != nil && isUnknown(*d.Platform)
}

// distinct drops descriptors that say the same again.
func distinct(ds []Descriptor) []Descriptor {
	seen := make(map[string]bool, len(ds))
	var out []Descriptor
	for _, d := range ds {
		key := d.Digest.String() + " " + platforms.FormatAll(normalize(*d.Platform))
		if !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	return out
}

// matching are the descriptors of the wanted platform, each digest once.
func matching(ds []Descriptor, want Platform, withVariant bool) []Descriptor {
	seen := make(map[string]bool)
	var out []Descriptor
	for _, d := range ds {
		if matchPlatform(*d.Platform, want, withVariant) && !seen[d.Digest.String()] {
			seen[d.Digest.String()] = true
			out = append(out, d)
		}
	}
	return out
}

func matchPlatform(have, want Platform, withVariant bool) bool {
	have, want = normalize(have), normalize(want)
	if have.OS != want.OS || have.Architecture != want.Architecture || withVariant && have.Variant != want.Variant {
		return false
	}
	if want.OSVersion != "" && have.OSVersion != want.OSVersion && !strings.HasPrefix(have.OSVersion, want.OSVersion+".") {
		return false
	}
	return len(want.OSFeatures) == 0 || slices.Equal(have.OSFeatures, want.OSFeatures)
}

// withoutZstd drops manifests marked as having zstd layers (podman push
// --add-compression) where there is one of the same platform without the mark.
func withoutZstd(ds []Descriptor) []Descriptor {
	marked := func(d Descriptor) bool { return d.Annotations["io.github.containers.compression.zstd"] == "true" }
	return slices.DeleteFunc(slices.Clone(ds), func(d Descriptor) bool {
		return marked(d) && slices.ContainsFunc(ds, func(o Descriptor) bool {
			return !marked(o) && platforms.FormatAll(normalize(*o.Platform)) == platforms.FormatAll(normalize(*d.Platform))
		})
	})
}

func sorted(ds []Descriptor) []Descriptor {
	slices.SortStableFunc(ds, func(a, b Descriptor) int {
		return cmp.Or(
			cmp.Compare(FormatPlatform(*a.Platform), FormatPlatform(*b.Platform)),
			cmp.Compare(a.Digest, b.Digest))
	})
	return ds
}

// PlatformError says that an index has no manifest of the wanted platform, or
// several. It wraps ErrNotFound.
type PlatformError struct {
	Want Platform
	// Available are the platforms to choose from, each with its Platform set,
	// in a stable order: all of the index, or those that match.
	Available []Descriptor
	// Several says that more than one matches.
	Several bool
}

// Error lists the platforms to choose from, one a line, each ready to be
// pasted as an option. os.version and os.features stand there only where
// nothing else tells two of them apart.
func (e *PlatformError) Error() string {
	want := FormatPlatform(e.Want)
	if len(e.Available) == 0 {
		return fmt.Sprintf("there is no image for %s: the index tells no platform at all", want)
	}
	var b strings.Builder
	if e.Several {
		fmt.Fprintf(&b, "there are several images for %s; choose one:", want)
	} else {
		fmt.Fprintf(&b, "there is no image for %s; choose one of these:", want)
	}
	values := platformValues(e.Available)
	width := 0
	for _, v := range values {
		width = max(width, len(v))
	}
	for i, v := range values {
		if i == maxListed {
			fmt.Fprintf(&b, "\n  and %d more", len(values)-i)
			break
		}
		fmt.Fprintf(&b, "\n  --platform %-*s   # digest %s", width, v, clean(e.Available[i].Digest.String()))
	}
	return b.String()
}

// Unwrap is ErrNotFound.
func (e *PlatformError) Unwrap() error { return ErrNotFound }

// platformValues are the values of --platform for the descriptors, as short
// as tells them apart, quoted where a shell would trip over a parenthesis.
func platformValues(ds []Descriptor) []string {
	// From the shortest to the longest form; each is taken where it is unique.
	forms := []func(Platform) Platform{
		func(p Platform) Platform { p.OSVersion, p.OSFeatures = "", nil; return p },
		func(p Platform) Platform { p.OSFeatures = nil; return p },
		func(p Platform) Platform { return p },
	}
	values := make([]string, len(ds))
	for _, form := range forms {
		count := make(map[string]int)
		for _, d := range ds {
			count[FormatPlatform(normalize(form(*d.Platform)))]++
		}
		for i, d := range ds {
			if values[i] == "" && count[FormatPlatform(normalize(form(*d.Platform)))] == 1 {
				values[i] = FormatPlatform(form(*d.Platform))
			}
		}
	}
	for i, d := range ds {
		if values[i] == "" { // nothing but the digest tells it apart
			values[i] = FormatPlatform(*d.Platform)
		}
		values[i] = QuotePlatform(values[i])
	}
	return values
}

// QuotePlatform quotes a value that FormatPlatform wrote, where a shell wants it.
func QuotePlatform(s string) string {
	if strings.ContainsAny(s, "()") {
		return `"` + s + `"`
	}
	return s
}
