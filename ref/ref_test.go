package ref

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/opencontainers/go-digest"
)

var (
	hex256 = strings.Repeat("0123456789abcdef", 4)
	sha256 = digest.Digest("sha256:" + hex256)
	sha512 = digest.Digest("sha512:" + hex256 + hex256)
)

func TestParse(t *testing.T) {
	d, d512 := string(sha256), string(sha512)
	tests := []struct {
		in   string
		want Reference
	}{
		{"hello-world", Reference{Registry: "docker.io", Repository: "library/hello-world"}},
		{"alpine:3.20", Reference{Registry: "docker.io", Repository: "library/alpine", Tag: "3.20"}},
		{"registry:2", Reference{Registry: "docker.io", Repository: "library/registry", Tag: "2"}},
		{"mysql/mysql-server:8.0", Reference{Registry: "docker.io", Repository: "mysql/mysql-server", Tag: "8.0"}},
		{"protopie/enterprise-onpremises:api-15.8.3", Reference{Registry: "docker.io", Repository: "protopie/enterprise-onpremises", Tag: "api-15.8.3"}},
		{"docker.io/alpine", Reference{Registry: "docker.io", Repository: "library/alpine"}},
		{"docker.io/library/alpine", Reference{Registry: "docker.io", Repository: "library/alpine"}},
		{"index.docker.io/alpine:3", Reference{Registry: "docker.io", Repository: "library/alpine", Tag: "3"}},
		{"Docker.IO/Alpine:3", Reference{}},
		{"Docker.IO/alpine:3", Reference{Registry: "docker.io", Repository: "library/alpine", Tag: "3"}},
		{"docker.io/my.image", Reference{Registry: "docker.io", Repository: "library/my.image"}},
		{"my.image:v1", Reference{Registry: "docker.io", Repository: "library/my.image", Tag: "v1"}},
		{"docker.io/library/" + hex256, Reference{Registry: "docker.io", Repository: "library/" + hex256}},
		{"mcr.microsoft.com/mssql-tools", Reference{Registry: "mcr.microsoft.com", Repository: "mssql-tools"}},
		{"GHCR.io/a/b:Tag", Reference{Registry: "ghcr.io", Repository: "a/b", Tag: "Tag"}},
		{"localhost/a", Reference{Registry: "localhost", Repository: "a"}},
		{"localhost:5000/a/b/c:tag", Reference{Registry: "localhost:5000", Repository: "a/b/c", Tag: "tag"}},
		{"host:5000/v2/app", Reference{Registry: "host:5000", Repository: "v2/app"}},
		{"127.0.0.1:5000/app", Reference{Registry: "127.0.0.1:5000", Repository: "app"}},
		{"[::1]:5000/app:1", Reference{Registry: "[::1]:5000", Repository: "app", Tag: "1"}},
		{"[2001:DB8::1]/app", Reference{Registry: "[2001:db8::1]", Repository: "app"}},
		{"a__b/c--d/e.f", Reference{Registry: "docker.io", Repository: "a__b/c--d/e.f"}},

		{"consul@" + d, Reference{Registry: "docker.io", Repository: "library/consul", Digest: sha256}},
		{"consul:1@" + d, Reference{Registry: "docker.io", Repository: "library/consul", Tag: "1", Digest: sha256}},
		{"my.image@" + d, Reference{Registry: "docker.io", Repository: "library/my.image", Digest: sha256}},
		{"quay.io/a/b:1@" + d512, Reference{Registry: "quay.io", Repository: "a/b", Tag: "1", Digest: sha512}},

		{"docker://alpine", Reference{Registry: "docker.io", Repository: "library/alpine"}},
		{"docker://ghcr.io/a/b:1@" + d, Reference{Registry: "ghcr.io", Repository: "a/b", Tag: "1", Digest: sha256}},
		{"docker://registry/image#tag", Reference{Registry: "docker.io", Repository: "registry/image", Tag: "tag"}},
		{"docker://registry.example/image#tag", Reference{Registry: "registry.example", Repository: "image", Tag: "tag"}},
		{"docker://registry.example/image#" + d, Reference{Registry: "registry.example", Repository: "image", Digest: sha256}},
		{"DOCKER://alpine#3", Reference{Registry: "docker.io", Repository: "library/alpine", Tag: "3"}},

		{"https://host:5000/v2/name", Reference{Registry: "host:5000", Repository: "name", Scheme: "https"}},
		{"https://host:5000/v2/a/b:t@" + d, Reference{Registry: "host:5000", Repository: "a/b", Tag: "t", Digest: sha256, Scheme: "https"}},
		{"https://host:5000/name:t", Reference{Registry: "host:5000", Repository: "name", Tag: "t", Scheme: "https"}},
		{"http://host:5000/v2//name/", Reference{Registry: "host:5000", Repository: "name", Scheme: "http"}},
		{"https://registry.example/v2/v2/app", Reference{Registry: "registry.example", Repository: "v2/app", Scheme: "https"}},
		{"http://registry/app", Reference{Registry: "registry:80", Repository: "app", Scheme: "http"}},
		{"https://Registry/v2/app:1", Reference{Registry: "registry:443", Repository: "app", Tag: "1", Scheme: "https"}},
		{"http://localhost/app", Reference{Registry: "localhost", Repository: "app", Scheme: "http"}},
		{"http://[::1]:5000/v2/app", Reference{Registry: "[::1]:5000", Repository: "app", Scheme: "http"}},
		{"https://registry-1.docker.io/v2/library/alpine:3", Reference{Registry: "docker.io", Repository: "library/alpine", Tag: "3", Scheme: "https"}},
		{"https://docker.io/alpine", Reference{Registry: "docker.io", Repository: "library/alpine", Scheme: "https"}},

		{"  alpine:3\n", Reference{Registry: "docker.io", Repository: "library/alpine", Tag: "3"}},
		{"ghcr.io/a/b//", Reference{Registry: "ghcr.io", Repository: "a/b"}},
		{"alpine/", Reference{Registry: "docker.io", Repository: "library/alpine"}},
		{"consul@" + d + "/", Reference{Registry: "docker.io", Repository: "library/consul", Digest: sha256}},
	}
	for _, tt := range tests {
		got, err := Parse(tt.in)
		if (err != nil) != (tt.want == Reference{}) || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			continue
		}
		if err == nil {
			checkStable(t, got)
		}
	}
}

func TestParseErrors(t *testing.T) {
	upper := "sha256:" + strings.ToUpper(hex256)
	tests := []struct{ in, want string }{
		{"", "it is empty"},
		{" \t", "it is empty"},
		{"/", "starts with a slash"},
		{"ghcr.io/Acme/App:V1", `must be lowercase: write "ghcr.io/acme/app:V1"`},
		{"Alpine", `must be lowercase: write "alpine"`},
		{"MyUser/app:1", `must be lowercase: write "myuser/app:1" (or https://MyUser/app:1 if MyUser is a registry)`},
		{"https://host:5000/v2/App", `must be lowercase: write "host:5000/app"`},
		{"ghcr.io", "names a registry but no image: write ghcr.io/NAME"},
		{"ghcr.io/", "names a registry but no image"},
		{"localhost", "names a registry but no image"},
		{"localhost:5000", "names a registry but no image"},
		{"[::1]:5000", "names a registry but no image"},
		{"docker://quay.io/", "names a registry but no image"},
		{"https://host:5000", "names a registry but no image: write https://host:5000/NAME"},
		{"https://host:5000/v2/", "names a registry but no image"},
		{"http:///app", "host is missing"},
		{"https://host/app?x=1", "leave out what follows"},
		{"https://hub.docker.com/_/alpine", "it is a page of Docker Hub: write alpine"},
		{"https://hub.docker.com/r/mysql/mysql-server/tags", "it is a page of Docker Hub: write mysql/mysql-server"},
		{"https://hub.docker.com/search", "it is a page of Docker Hub: write the image's name"},
		{"ftp://host/app", "the scheme ftp:// is unknown"},
		{"alpine:", "the tag after the colon is missing"},
		{"alpine:-x", `"-x" is no tag`},
		{"alpine:" + strings.Repeat("x", 129), "is no tag"},
		{"host:0/a", `"0" is no port`},
		{"host:65536/a", `"65536" is no port`},
		{"host:/a", `"host:" is no host`},
		{"-host.io/a", "is no host"},
		{"[::1/a", "is no host"},
		{"a b", "is no repository"},
		{"a//b", "is no repository"},
		{"a/../b", "is no repository"},
		{"a\x1b[31m", "is no repository"},
		{strings.Repeat("a/", 130) + "b", "longer than 255"},
		{hex256, "is an image ID or digest without a name"},
		{string(sha256), "is an image ID or digest without a name"},
		{"a@sha256:abc", "want 64 hexadecimal digits after sha256:, not 3 characters"},
		{"a@sha256:../x", "what stands before the @"},
		{"a@sha256:" + hex256[1:] + "g", "want lowercase hexadecimal digits"},
		{"a@" + upper, "want lowercase hexadecimal digits"},
		{"a@sha384:" + hex256 + hex256[:32], `the algorithm "sha384" is not supported`},
		{"a@md5:" + hex256[:32], "no digest"},
		{"a@latest", "what follows the @ is no digest"},
		{"docker://a#b#c", "is no repository"},
	}
	for _, tt := range tests {
		got, err := Parse(tt.in)
		if err == nil {
			t.Errorf("Parse(%q) = %+v; want an error with %q", tt.in, got, tt.want)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrInvalid) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("Parse(%q): %q; want one line with %q", tt.in, err, tt.want)
		}
	}
}

func TestParseRepeatsNoPassword(t *testing.T) {
	for _, in := range []string{
		"https://user:s3cret@host:5000/v2/app",
		"https://user:s3cret@host:5000",
		"https://user:s3cret@host",
		"https://user:s3cret@host/",
		"https://user:s3@s3cret@host/app",
		"https://user:s3/s3cret@host/app",
		"https://user:s3/s3cret@host",
		"https://s3cret@host/App",
		"docker://user:s3cret@host/app",
		"ftp://user:s3cret@host/app",
		"user:s3cret@host:5000/app",
		"user:s3@s3cret:x",
		"user:s3cret@host",
	} {
		got, err := Parse(in)
		if err == nil {
			t.Errorf("Parse(%q) = %+v", in, got)
		} else if strings.Contains(err.Error(), "s3cret") || !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q): %v", in, err)
		}
	}
}

func TestParseName(t *testing.T) {
	tests := []struct{ in, want, err string }{
		{in: "app", want: "docker.io/library/app:latest"},
		{in: "me/app:1", want: "docker.io/me/app:1"},
		{in: "localhost:5000/app", want: "localhost:5000/app:latest"},
		{in: "app@" + string(sha256), err: "cannot have a digest: write docker.io/library/app"},
		{in: "https://host:5000/app", err: "a URL is no name: write host:5000/app"},
		{in: "App", err: "must be lowercase"},
	}
	for _, tt := range tests {
		got, err := ParseName(tt.in)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("ParseName(%q) = %v, %v; want an error with %q", tt.in, got, err, tt.err)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("ParseName(%q) = %v, %v; want %s", tt.in, got, err, tt.want)
		}
	}
}

func TestReference(t *testing.T) {
	r, err := Parse("alpine")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Host(); got != "registry-1.docker.io" {
		t.Errorf("Host: %s", got)
	}
	if got := r.Name(); got != "docker.io/library/alpine" {
		t.Errorf("Name: %s", got)
	}
	if got := r.Base(); got != "alpine" {
		t.Errorf("Base: %s", got)
	}
	if got := r.TagOrDigest(); got != "" {
		t.Errorf("TagOrDigest with neither: %s", got)
	}
	r = r.WithTag("3")
	if got := r.TagOrDigest(); got != "3" {
		t.Errorf("TagOrDigest with a tag: %s", got)
	}
	r = r.WithDigest(sha256)
	if got := r.TagOrDigest(); got != string(sha256) {
		t.Errorf("TagOrDigest with both: %s", got)
	}
	if got := r.String(); got != "docker.io/library/alpine:3@"+string(sha256) {
		t.Errorf("String: %s", got)
	}
	if got := (Reference{Registry: "localhost:5000", Repository: "a"}); got.Host() != "localhost:5000" || got.Base() != "a" {
		t.Errorf("Host, Base: %s, %s", got.Host(), got.Base())
	}
}

func TestCheckDigest(t *testing.T) {
	for _, d := range []digest.Digest{sha256, sha512} {
		if err := CheckDigest(d); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []string{
		"", "sha256", "sha256:", ":" + hex256, hex256, "sha256:../x", "sha256:" + hex256 + "0", "sha256:" + hex256[1:],
		"sha256:" + strings.ToUpper(hex256), "SHA256:" + hex256, "sha256:" + hex256[:63] + "/", "sha256:" + hex256[:63] + "\n",
		"sha512:" + hex256, "sha384:" + hex256 + hex256[:32], "sha256:sha256:" + hex256, "sha256:" + hex256 + "\n", "../sha256:" + hex256,
	} {
		if err := CheckDigest(digest.Digest(d)); err == nil {
			t.Errorf("CheckDigest(%q) passed", d)
		}
	}
}

// checkStable: what String writes, Parse reads as the same reference.
func checkStable(t *testing.T, r Reference) {
	t.Helper()
	again, err := Parse(r.String())
	if r.Scheme = ""; err != nil || again != r {
		t.Errorf("Parse(%q) = %+v, %v; want %+v", r.String(), again, err, r)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"alpine", "a/b:c", "localhost:5000/a/b/c:tag", "x@" + string(sha256), "x:y@" + string(sha512), "docker://r/i#t",
		"https://host:5000/v2/name", "http://h/v2/v2:1", "http://Docker.io/x", "[::1]:5000/a", "https://u:p@h/x", "A/b", "registry-1.docker.io/x",
		"index.docker.io/x", "http://host:/x", "localhost", "docker.io/docker.io/x", "LOCALHOST/x", "httpA0/\x10",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("Parse(%q): %q", s, err)
			}
			return
		}
		checkStable(t, r)
		if r.Repository == "" || r.Registry == "" || strings.Contains(r.Repository, "..") || r.Tag != "" && !ValidTag(r.Tag) || r.Digest != "" && CheckDigest(r.Digest) != nil {
			t.Errorf("Parse(%q) = %+v", s, r)
		}
	})
}
