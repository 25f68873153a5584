package rootfs

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// The diffID is that of the whole decompressed stream, whatever stands behind
// the tar's end.
func TestDiffID(t *testing.T) {
	body := tarOf(t, file("a", "1"), file("big", big))
	padded := append(bytes.Clone(body), make([]byte, 300_000)...)
	trailed := append(bytes.Clone(body), "behind the end"...)
	changed := bytes.Clone(trailed)
	changed[len(changed)-1]++
	other := tarOf(t, file("a", "2"), file("big", big))
	sha256 := digest.SHA256.FromBytes
	tests := []struct {
		name string
		tar  []byte
		id   digest.Digest
		ok   bool
	}{
		{"none", body, "", true},
		{"the tar's", body, sha256(body), true},
		{"sha512", body, digest.SHA512.FromBytes(body), true},
		{"another's", body, sha256(other), false},
		{"another's, of sha512", body, digest.SHA512.FromBytes(other), false},
		{"with padding", padded, sha256(padded), true},
		{"with padding that does not count", padded, sha256(body), false},
		{"with something behind the end", trailed, sha256(trailed), true},
		{"with something else behind the end", trailed, sha256(changed), false},
		{"of no algorithm", body, "md5:d41d8cd98f00b204e9800998ecf8427e", false},
		{"no digest", body, "../../etc", false},
	}
	for _, tt := range tests {
		for name, compress := range map[string]func(testing.TB, []byte) []byte{
			"plain": func(_ testing.TB, b []byte) []byte { return b }, "gzip": gzipOf, "zstd": zstdOf,
		} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				layer := asLayer(compress(t, tt.tar))
				layer.DiffID = tt.id
				lower := asLayer(gzipOf(t, other))
				lower.DiffID = sha256(other)
				tree, err := Merge(context.Background(), []Layer{lower, layer}, Options{SpoolDir: t.TempDir()})
				if err == nil {
					defer tree.Close()
				}
				checkDiffID(t, err, tt.ok, "layer 2", layer, tt.tar)
				as, err := Verbatim(context.Background(), []Layer{layer}, Options{})
				if as != (tt.ok && name == "gzip") {
					t.Errorf("verbatim: %v", as)
				}
				checkDiffID(t, err, tt.ok || name != "gzip", "layer 1", layer, tt.tar)
			})
		}
	}
}

func checkDiffID(t *testing.T, err error, ok bool, number string, layer Layer, tar []byte) {
	t.Helper()
	if ok {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, image.ErrVerification) {
		t.Fatalf("%v, want ErrVerification", err)
	}
	says := []string{number, string(layer.Descriptor.Digest)}
	if image.CheckDigest(layer.DiffID) == nil {
		says = append(says, "has the digest "+layer.DiffID.Algorithm().FromBytes(tar).String()+", not "+layer.DiffID.String())
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not tell %q", err, s)
		}
	}
}

// What is decoded a second time, and not to its end, is not hashed again.
func TestDiffIDDecodedAgain(t *testing.T) {
	lower := tarOf(t, file("a", big), hardlink("b", "a"), file("c", "1"))
	upper := tarOf(t, file("a", "new"))
	layers := []Layer{asLayer(gzipOf(t, lower)), asLayer(gzipOf(t, upper))}
	layers[0].DiffID, layers[1].DiffID = digest.FromBytes(lower), digest.FromBytes(upper)
	tree := merged(t, layers, Options{Jobs: 1})
	if s := tree.Stats(); s.Again != 1 {
		t.Errorf("%+v", s)
	}
}
