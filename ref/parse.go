package ref

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// ErrInvalid is wrapped by every error of Parse and ParseName.
var ErrInvalid = errors.New("invalid reference")

var (
	anchoredTag        = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)
	anchoredDomain     = regexp.MustCompile(`^` + reference.DomainRegexp.String() + `$`)
	anchoredIdentifier = regexp.MustCompile(`^` + reference.IdentifierRegexp.String() + `$`)
	anyScheme          = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*)://`)
	digits             = regexp.MustCompile(`^[0-9]+$`)
)

// ValidTag says whether a tag is well formed (OCI distribution-spec, "Pulling
// manifests"): up to 128 letters, digits, '_', '.' and '-', not starting with
// '.' or '-'. Only what passes may become part of a URL.
func ValidTag(tag string) bool { return anchoredTag.MatchString(tag) }

// Parse reads a reference as people write and paste it:
//
//	alpine, alpine:3.20, mysql/mysql-server:8.0      Docker Hub, as Docker resolves them
//	mcr.microsoft.com/mssql-tools, localhost:5000/a/b/c:tag, [::1]:5000/a
//	name@sha256:…, name:tag@sha256:…                 (sha512 too)
//	docker://name:tag, docker://registry/name#tag
//	https://host:5000/v2/name:tag, http://host/name  a registry's URL, with or without /v2
//
// White space around it and slashes at its end are dropped, and hosts are
// lowercased. In a URL the first component is always the registry; where the
// name alone would not show that ("http://registry/app"), Registry gets the
// scheme's port ("registry:80"), so that every later reader of the name
// understands it. Errors are one line and wrap ErrInvalid; they never repeat a
// password.
func Parse(s string) (Reference, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Reference{}, fmt.Errorf("%w: it is empty: write a name such as alpine:3.20", ErrInvalid)
	}
	if err := checkAt(s); err != nil {
		return Reference{}, err
	}

	scheme, rest := "", s
	if m := anyScheme.FindStringSubmatch(s); m != nil {
		scheme, rest = strings.ToLower(m[1]), s[len(m[0]):]
	}
	switch scheme {
	case "":
		return parseName(s, rest)
	case "docker":
		return parseName(s, fragmentToTag(rest))
	case "http", "https":
		return parseURL(s, scheme, rest)
	default:
		return Reference{}, invalid(s, "the scheme %s:// is unknown: write docker://, https://, http:// or none", scheme)
	}
}

// ParseName reads a name that an image is to get: as Parse reads it, with the
// tag latest where none is written, but neither a URL nor a digest.
func ParseName(s string) (Reference, error) {
	r, err := Parse(s)
	if err != nil {
		return Reference{}, err
	}
	if r.Scheme != "" {
		return Reference{}, invalid(s, "a URL is no name: write %s", r)
	}
	if r.Digest != "" {
		return Reference{}, invalid(s, "a name that is given to an image cannot have a digest: write %s", r.WithDigest(""))
	}
	if r.Tag == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// checkAt lets an '@' stand only before a digest. Anywhere else it looks like
// user:password@host, of which nothing may be repeated; so this comes first.
func checkAt(s string) error {
	before, after, ok := strings.Cut(s, "@")
	if !ok {
		return nil
	}
	algorithm, _, colon := strings.Cut(after, ":")
	if strings.ContainsAny(strings.TrimRight(after, "/"), "/@") || !colon && anyScheme.MatchString(before) {
		return fmt.Errorf("%w: a user name and password cannot be part of it: leave out what stands before the @, and give credentials separately", ErrInvalid)
	}
	if !colon {
		return fmt.Errorf("%w: what follows the @ is no digest: write NAME@sha256:… (a tag follows a colon: NAME:TAG)", ErrInvalid)
	}
	if err := CheckDigest(digest.Digest(strings.TrimRight(after, "/"))); err != nil {
		// Where it is not even meant as a digest it may be part of a secret.
		if !strings.HasPrefix(algorithm, "sha") {
			return fmt.Errorf("%w: what follows the @ is no digest: write NAME@sha256:… (credentials cannot be part of it)", ErrInvalid)
		}
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// fragmentToTag turns name#tag into name:tag.
func fragmentToTag(s string) string {
	name, tag, ok := strings.Cut(s, "#")
	if !ok || strings.Contains(tag, "#") {
		return s
	}
	if strings.HasPrefix(tag, "sha256:") || strings.HasPrefix(tag, "sha512:") {
		return name + "@" + tag
	}
	return name + ":" + tag
}

// hubPage is the image that a page of Docker Hub is about.
func hubPage(path string) string {
	parts := strings.Split(path, "/")
	switch {
	case len(parts) > 1 && parts[0] == "_":
		return parts[1]
	case len(parts) > 2 && parts[0] == "r":
		return parts[1] + "/" + parts[2]
	}
	return "the image's name, such as alpine or mysql/mysql-server"
}

// parseURL reads what follows http:// or https://.
func parseURL(written, scheme, s string) (Reference, error) {
	if strings.ContainsAny(s, "?#") {
		return Reference{}, invalid(written, "a registry's URL ends with the name of the image: leave out what follows the ? or #")
	}
	registry, path, _ := strings.Cut(s, "/")
	path = strings.Trim(path, "/")
	if path == "v2" {
		path = ""
	}
	path = strings.TrimLeft(strings.TrimPrefix(path, "v2/"), "/")
	if registry == "" {
		return Reference{}, invalid(written, "the registry's host is missing: write %s://HOST/NAME", scheme)
	}
	if path == "" {
		return Reference{}, invalid(written, "it names a registry but no image: write %s://%s/NAME", scheme, registry)
	}
	registry = strings.ToLower(registry)
	if registry == "hub.docker.com" {
		return Reference{}, invalid(written, "it is a page of Docker Hub: write %s", hubPage(path))
	}
	if !strings.ContainsAny(registry, ".:") && registry != "localhost" {
		if scheme == "http" {
			registry += ":80"
		} else {
			registry += ":443"
		}
	}
	r, err := parseParts(written, registry, path)
	r.Scheme = scheme
	return r, err
}

// parseName reads a name without scheme.
func parseName(written, s string) (Reference, error) {
	if strings.HasPrefix(s, "/") {
		return Reference{}, invalid(written, "it starts with a slash: write [REGISTRY/]NAME[:TAG]")
	}
	s = strings.TrimRight(s, "/")
	first, path, ok := strings.Cut(s, "/")
	if !ok {
		if bareRegistry(first) {
			return Reference{}, invalid(written, "it names a registry but no image: write %s/NAME (or docker.io/library/%s for an image of that name on Docker Hub)", first, first)
		}
		return parseParts(written, "", s)
	}
	// A host, as Docker tells it from a part of the repository.
	if strings.ContainsAny(first, ".:") || strings.EqualFold(first, "localhost") {
		return parseParts(written, strings.ToLower(first), path)
	}
	if lower := strings.ToLower(first); lower != first && anchoredDomain.MatchString(first) {
		// Docker takes it for a host; nearly always it is a name with a slip.
		return Reference{}, invalid(written, "a repository must be lowercase: write %s (or https://%s if %s is a registry)",
			lowercase("", s), s, first)
	}
	return parseParts(written, "", s)
}

// bareRegistry says whether a name of one component is a registry's rather
// than an image's: localhost, ghcr.io, localhost:5000, [::1]:5000, but not
// alpine:3.20 or registry:2.
func bareRegistry(s string) bool {
	if strings.HasPrefix(s, "[") {
		return true
	}
	if strings.Contains(s, "@") {
		return false
	}
	host, port, colon := strings.Cut(s, ":")
	if colon && !digits.MatchString(port) {
		return false
	}
	return strings.EqualFold(host, "localhost") || strings.Contains(host, ".") && anchoredDomain.MatchString(host)
}

// parseParts reads a repository with tag and digest, in a registry; without
// one, on Docker Hub.
func parseParts(written, registry, s string) (Reference, error) {
	name, tag, hasTag, dgst := split(s)
	if registry == hubHost {
		registry = hubName // its API's host, pasted from a URL
	}
	if registry != "" {
		if !anchoredDomain.MatchString(registry) {
			return Reference{}, invalid(written, "%q is no host or host:port", short(registry))
		}
		if i := strings.LastIndexByte(registry, ':'); i >= 0 && !strings.HasSuffix(registry, "]") {
			if port, err := strconv.ParseUint(registry[i+1:], 10, 16); err != nil || port == 0 {
				return Reference{}, invalid(written, "%q is no port: want 1 to 65535", short(registry[i+1:]))
			}
		}
	}
	switch {
	case name == "":
		return Reference{}, invalid(written, "the name of the image is missing: write [REGISTRY/]NAME[:TAG]")
	case hasTag && tag == "":
		return Reference{}, invalid(written, "the tag after the colon is missing: write a tag, or leave out the colon")
	case hasTag && !ValidTag(tag):
		return Reference{}, invalid(written, "%q is no tag: want up to 128 letters, digits, _, . and -, not starting with . or -", short(tag))
	case strings.ToLower(name) != name:
		return Reference{}, invalid(written, "a repository must be lowercase: write %s", lowercase(registry, s))
	case registry == "" && (anchoredIdentifier.MatchString(s) || CheckDigest(digest.Digest(s)) == nil):
		return Reference{}, invalid(written, "it is an image ID or digest without a name: write NAME@sha256:…")
	}

	full := s
	if registry != "" {
		full = registry + "/" + s
	}
	named, err := reference.ParseNormalizedNamed(full)
	if errors.Is(err, reference.ErrNameTooLong) {
		return Reference{}, invalid(written, "the repository is longer than %d characters", reference.RepositoryNameTotalLengthMax)
	}
	if err != nil {
		return Reference{}, invalid(written, "%q is no repository: want components of a-z and 0-9 with single . or _, __ or - between them, separated by slashes", short(name))
	}
	return Reference{
		Registry:   reference.Domain(named),
		Repository: reference.Path(named),
		Tag:        tag,
		Digest:     digest.Digest(dgst),
	}, nil
}

// split takes a repository apart from its tag and digest.
func split(s string) (name, tag string, hasTag bool, dgst string) {
	name, dgst, _ = strings.Cut(s, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag, hasTag = name[:i], name[i+1:], true
	}
	return name, tag, hasTag, dgst
}

// lowercase is the name with its repository lowercased and the rest as written.
func lowercase(registry, s string) string {
	name, _, _, _ := split(s)
	s = strings.ToLower(name) + s[len(name):]
	if registry != "" {
		s = registry + "/" + s
	}
	return strconv.Quote(short(s))
}

func invalid(written, format string, args ...any) error {
	what := strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, fmt.Sprintf(format, args...))
	return fmt.Errorf("%w %q: %s", ErrInvalid, short(written), what)
}
