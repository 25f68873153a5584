package image

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParsePlatform(t *testing.T) {
	tests := []struct {
		in   string
		want Platform
	}{
		{"linux/amd64", Platform{OS: "linux", Architecture: "amd64"}},
		{" Linux/x86_64 ", Platform{OS: "linux", Architecture: "amd64"}},
		{"linux/amd64/v1", Platform{OS: "linux", Architecture: "amd64"}},
		{"linux/amd64/v3", Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}},
		{"linux/arm64/v8", Platform{OS: "linux", Architecture: "arm64"}},
		{"linux/aarch64", Platform{OS: "linux", Architecture: "arm64"}},
		{"linux/arm64/v9", Platform{OS: "linux", Architecture: "arm64", Variant: "v9"}},
		{"linux/arm", Platform{OS: "linux", Architecture: "arm"}},
		{"linux/arm/v7", Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
		{"linux/arm/6", Platform{OS: "linux", Architecture: "arm", Variant: "v6"}},
		{"linux/armhf", Platform{OS: "linux", Architecture: "arm"}},
		{"linux/armel", Platform{OS: "linux", Architecture: "arm", Variant: "v6"}},
		{"arm64", Platform{OS: "linux", Architecture: "arm64"}},
		{"s390x", Platform{OS: "linux", Architecture: "s390x"}},
		{"arm/v7", Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
		{"arm64/v8", Platform{OS: "linux", Architecture: "arm64"}},
		{"freebsd/riscv64", Platform{OS: "freebsd", Architecture: "riscv64"}},
		{"windows/amd64", Platform{OS: "windows", Architecture: "amd64"}},
		{"windows(10.0.17763)/amd64", Platform{OS: "windows", OSVersion: "10.0.17763", Architecture: "amd64"}},
		{"windows(10.0.17763+win32k)/amd64", Platform{OS: "windows", OSVersion: "10.0.17763", OSFeatures: []string{"win32k"}, Architecture: "amd64"}},
	}
	if runtime.GOARCH != "arm" {
		tests = append(tests, []struct {
			in   string
			want Platform
		}{
			{"linux", Platform{OS: "linux", Architecture: runtime.GOARCH}},
			{"windows(10.0.20348)", Platform{OS: "windows", OSVersion: "10.0.20348", Architecture: runtime.GOARCH}},
		}...)
	}
	for _, tt := range tests {
		got, err := ParsePlatform(tt.in)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParsePlatform(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			continue
		}
		again, err := ParsePlatform(FormatPlatform(got))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("ParsePlatform(%q) = %+v, %v; want %+v", FormatPlatform(got), again, err, got)
		}
	}
	for _, in := range []string{"", "/", "linux/", "a/b/c/d", "nonsense", "linux/*", "linux/am d64", "unknown/unknown", "linux/a\x1bb"} {
		got, err := ParsePlatform(in)
		if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("ParsePlatform(%q) = %+v, %q", in, got, err)
		}
	}
}

func TestFormatPlatformIsFitForAShell(t *testing.T) {
	got := FormatPlatform(Platform{OS: "lin$(x)ux\x1b[1m", Architecture: "amd64;rm -rf /", Variant: "v1`", OSVersion: "1.2)\n'"})
	if got != "linxux1m(1.2)/amd64rm-rf/v1" {
		t.Errorf("FormatPlatform: %q", got)
	}
}

func TestDefaultPlatform(t *testing.T) {
	p := DefaultPlatform()
	if p.OS != "linux" || p.Architecture != runtime.GOARCH || p.OSVersion != "" || p.Variant != "" && p.Architecture != "arm" {
		t.Errorf("DefaultPlatform: %+v", p)
	}
}

// entry is a descriptor of an index: a platform as os/arch/variant/os.version,
// or "" for none; its digest is that of the name.
func entry(name, platform string) Descriptor {
	d := Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 100}
	if platform != "" {
		part := append(strings.Split(platform, "/"), "", "", "")
		d.Platform = &Platform{OS: part[0], Architecture: part[1], Variant: part[2], OSVersion: part[3]}
	}
	return d
}

func annotated(d Descriptor, key, value string) Descriptor {
	d.Annotations = map[string]string{key: value}
	return d
}

func withMediaType(d Descriptor, mediaType string) Descriptor {
	d.MediaType = mediaType
	return d
}

func TestChoosePlatform(t *testing.T) {
	attestation := func(name, platform string) Descriptor {
		return annotated(entry(name, platform), "vnd.docker.reference.type", "attestation-manifest")
	}
	zstd := func(d Descriptor) Descriptor { return annotated(d, "io.github.containers.compression.zstd", "true") }
	common := []Descriptor{
		entry("amd64", "linux/amd64"), entry("arm64", "linux/arm64/v8"), entry("armv6", "linux/arm/v6"), entry("armv7", "linux/arm/v7"),
		entry("win2019", "windows/amd64//10.0.17763.6414"), entry("win2022", "windows/amd64//10.0.20348.1"),
		entry("unknown", "unknown/unknown"), attestation("att", "linux/amd64"), entry("none", ""),
		withMediaType(entry("other", "linux/ppc64le"), "application/vnd.example"),
	}
	tests := []struct {
		name      string
		manifests []Descriptor
		want      string
		choose    string   // the name chosen
		list      []string // or the names listed
	}{
		{"exact", common, "linux/amd64", "amd64", nil},
		{"normalised", common, "linux/arm64", "arm64", nil},
		{"arm is v7", common, "linux/arm", "armv7", nil},
		{"variant", common, "linux/arm/v6", "armv6", nil},
		{"no such variant", common, "linux/arm/v5", "", []string{"amd64", "armv6", "armv7", "arm64", "win2019", "win2022"}},
		{"never unknown", common, "linux/ppc64le", "", []string{"amd64", "armv6", "armv7", "arm64", "win2019", "win2022"}},
		{"os.version", common, "windows(10.0.17763)/amd64", "win2019", nil},
		{"os.version in full", common, "windows(10.0.17763.6414)/amd64", "win2019", nil},
		{"os.version is no string prefix", common, "windows(10.0.1776)/amd64", "", []string{"amd64", "armv6", "armv7", "arm64", "win2019", "win2022"}},
		{"several os.versions", common, "windows/amd64", "", []string{"win2019", "win2022"}},
		{"the only variant", []Descriptor{entry("v6", "linux/arm/v6"), entry("x", "linux/386")}, "linux/arm", "v6", nil},
		{"several variants", []Descriptor{entry("v6", "linux/arm/v6"), entry("v5", "linux/arm/v5")}, "linux/arm", "", []string{"v5", "v6"}},
		{"not another variant", []Descriptor{entry("v6", "linux/arm/v6")}, "linux/arm/v7", "", []string{"v6"}},
		{"twice the same", []Descriptor{entry("a", "linux/arm64"), entry("a", "linux/arm64/v8")}, "linux/arm64", "a", nil},
		{"twice another", []Descriptor{entry("a", "linux/s390x"), entry("b", "linux/s390x")}, "linux/s390x", "", []string{"a", "b"}},
		{"zstd beside", []Descriptor{zstd(entry("z", "linux/s390x")), entry("g", "linux/s390x")}, "linux/s390x", "g", nil},
		{"zstd only", []Descriptor{zstd(entry("z", "linux/s390x"))}, "linux/s390x", "z", nil},
		{"one without platform", []Descriptor{entry("one", ""), attestation("att", "unknown/unknown")}, "linux/s390x", "one", nil},
		{"two without platform", []Descriptor{entry("one", ""), entry("two", "")}, "linux/s390x", "", []string{}},
		{"one that tells another", []Descriptor{entry("one", "linux/amd64")}, "linux/s390x", "", []string{"one"}},
		{"half a platform", []Descriptor{entry("one", "linux/"), entry("two", "/amd64")}, "linux/amd64", "", []string{}},
		{"empty", nil, "linux/amd64", "", []string{}},
	}
	for _, tt := range tests {
		want, err := ParsePlatform(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ChoosePlatform(tt.manifests, want)
		if tt.choose != "" {
			if err != nil || got.Digest != digest.FromString(tt.choose) {
				t.Errorf("%s: %v, %v; want %s", tt.name, got, err, tt.choose)
			}
			continue
		}
		var e *PlatformError
		if !errors.As(err, &e) || !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, %v; want a PlatformError", tt.name, got, err)
			continue
		}
		listed := make(map[digest.Digest]bool)
		for _, d := range e.Available {
			listed[d.Digest] = true
			if !strings.Contains(err.Error(), "# digest "+d.Digest.String()) {
				t.Errorf("%s: %v does not list %s", tt.name, err, d.Digest)
			}
		}
		if len(e.Available) != len(tt.list) {
			t.Errorf("%s: lists %d; want %v:\n%v", tt.name, len(e.Available), tt.list, err)
		}
		for _, name := range tt.list {
			if !listed[digest.FromString(name)] {
				t.Errorf("%s: %s is not listed:\n%v", tt.name, name, err)
			}
		}
	}
}

func TestPlatformErrorText(t *testing.T) {
	manifests := []Descriptor{
		entry("win2022", "windows/amd64//10.0.20348.1"), entry("arm64", "linux/arm64/v8"), entry("win2019", "windows/amd64//10.0.17763.6414"),
		entry("amd64", "linux/amd64"), entry("nano", "windows/arm64//10.0.26100.1"), entry("evil", "lin\x1b[2Jux/$(x)"),
	}
	_, err := ChoosePlatform(manifests, Platform{OS: "linux", Architecture: "riscv64"})
	want := strings.Join([]string{
		"there is no image for linux/riscv64; choose one of these:",
		"--platform lin2Jux/x # digest " + digest.FromString("evil").String(),
		"--platform linux/amd64 # digest " + digest.FromString("amd64").String(),
		"--platform linux/arm64/v8 # digest " + digest.FromString("arm64").String(),
		`--platform "windows(10.0.17763.6414)/amd64" # digest ` + digest.FromString("win2019").String(),
		`--platform "windows(10.0.20348.1)/amd64" # digest ` + digest.FromString("win2022").String(),
		"--platform windows/arm64 # digest " + digest.FromString("nano").String(),
	}, "\n")
	if err == nil || oneSpace(err.Error()) != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	columns := make(map[int]bool)
	for _, line := range strings.Split(err.Error(), "\n")[1:] {
		columns[strings.Index(line, "   # digest sha256:")] = true
	}
	if len(columns) != 1 {
		t.Errorf("not aligned:\n%v", err)
	}

	_, err = ChoosePlatform(manifests, Platform{OS: "windows", Architecture: "amd64"})
	if err == nil || !strings.HasPrefix(err.Error(), "there are several images for windows/amd64; choose one:\n") {
		t.Errorf("several: %v", err)
	}
	// What is listed is what chooses.
	var e *PlatformError
	if !errors.As(err, &e) || len(e.Available) != 2 {
		t.Fatal(err)
	}
	for i, v := range platformValues(e.Available) {
		p, err := ParsePlatform(strings.Trim(v, `"`))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := ChoosePlatform(manifests, p); err != nil || d.Digest != e.Available[i].Digest {
			t.Errorf("%s chooses %v, %v", v, d.Digest, err)
		}
	}
}

// oneSpace is s without the alignment.
func oneSpace(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(lines[i]), " ")
	}
	return strings.Join(lines, "\n")
}

// An index whose platforms are absurd gives an error that a person can read.
func TestPlatformErrorIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	var available []Descriptor
	for i := range 4000 {
		p := Platform{OS: "linux", Architecture: fmt.Sprintf("a%d", i)}
		if i == 0 {
			p.OSVersion, p.OSFeatures = long, slices.Repeat([]string{long}, 100)
		}
		available = append(available, Descriptor{Digest: digest.FromString(p.Architecture), Platform: &p})
	}
	text := (&PlatformError{Want: Platform{OS: "linux", Architecture: "amd64"}, Available: available}).Error()
	if len(text) > 200_000 || !strings.Contains(text, "and 3900 more") {
		t.Errorf("the error has %d bytes: %.300s", len(text), text)
	}
}
