package image

import (
	"strings"
	"testing"
)

func TestStoredOf(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, tt := range []struct{ containerd, refName, name string }{
		{"docker.io/library/alpine:3", "3", "docker.io/library/alpine:3"},
		{"docker.io/library/alpine:3", "localhost/x:1", "docker.io/library/alpine:3"},
		{"docker.io/library/alpine" + digest, "", "docker.io/library/alpine" + digest},
		{"", "3", ""},
		{"", "localhost/x:1", "localhost/x:1"},
		{"", "docker.io/library/alpine:3", "docker.io/library/alpine:3"},
		// No full names.
		{"alpine:3", "", ""},
		{"alpine:3", "localhost/x:1", "localhost/x:1"},
		{"docker.io/alpine:3", "", ""},
		{"docker.io/library/alpine", "", ""},
		{" docker.io/library/alpine:3", "", ""},
		{"https://docker.io/library/alpine:3", "", ""},
		{"DOCKER.IO/library/alpine:3", "", ""},
		{"docker.io/library/alpine:3\x1b[2J", "", ""},
		{"", "alpine:3", ""},
		{"", "", ""},
	} {
		d := Descriptor{Size: 7, Annotations: map[string]string{
			AnnotationImageName: tt.containerd, "org.opencontainers.image.ref.name": tt.refName,
		}}
		s := StoredOf(d)
		if s.Name != tt.name || s.RefName != tt.refName || s.Made || s.Size != 7 {
			t.Errorf("StoredOf(%q, %q) = %+v, want the name %q", tt.containerd, tt.refName, s, tt.name)
		}
	}
	if s := StoredOf(Descriptor{}); s.Name != "" || s.RefName != "" {
		t.Errorf("StoredOf without annotations = %+v", s)
	}
}
