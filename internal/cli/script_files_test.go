package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// tarEntry is a file in a tar.
type tarEntry struct {
	header *tar.Header
	body   []byte
}

func readTar(ts *testscript.TestScript, path string) []tarEntry {
	r := tar.NewReader(strings.NewReader(ts.ReadFile(path)))
	var entries []tarEntry
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		ts.Check(err)
		body, err := io.ReadAll(r)
		ts.Check(err)
		entries = append(entries, tarEntry{h, body})
	}
}

func find(entries []tarEntry, name string) ([]byte, bool) {
	for _, e := range entries {
		if e.header.Name == name {
			return e.body, true
		}
	}
	return nil, false
}

// listdir DIR prints the names of what is in a directory, one a line.
func listdir(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listdir DIR")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, e := range entries {
		_, _ = fmt.Fprintln(ts.Stdout(), e.Name())
	}
}

// tarlist FILE prints the names in a tar, one a line.
func tarlist(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tarlist FILE")
	}
	for _, e := range readTar(ts, args[0]) {
		_, _ = fmt.Fprintln(ts.Stdout(), e.header.Name)
	}
}

// tarcat FILE NAME prints a file in a tar.
func tarcat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tarcat FILE NAME")
	}
	body, ok := find(readTar(ts, args[0]), args[1])
	if !ok {
		ts.Fatalf("%s has no %s", args[0], args[1])
	}
	_, _ = ts.Stdout().Write(body)
}

// tarverify FILE checks what every loader relies on: each blob has the digest
// that is its name; manifest.json names a config and layers that are there, and
// each layer's content has the config's diffID; index.json leads to the same.
func tarverify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tarverify FILE")
	}
	entries := readTar(ts, args[0])
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.header.Name] {
			ts.Fatalf("%s stands in the tar twice", e.header.Name)
		}
		seen[e.header.Name] = true
		name, ok := strings.CutPrefix(e.header.Name, "blobs/")
		if !ok || e.header.Typeflag == tar.TypeDir {
			continue
		}
		d, err := digest.Parse(strings.Replace(name, "/", ":", 1))
		ts.Check(err)
		if got := d.Algorithm().FromBytes(e.body); got != d {
			ts.Fatalf("blob %s has the digest %s", d, got)
		}
	}
	var docker []struct {
		Config string
		Layers []string
	}
	unmarshal(ts, entries, "manifest.json", &docker)
	if len(docker) != 1 {
		ts.Fatalf("manifest.json names %d images, want 1", len(docker))
	}
	var config ocispec.Image
	unmarshal(ts, entries, docker[0].Config, &config)
	if len(docker[0].Layers) != len(config.RootFS.DiffIDs) {
		ts.Fatalf("%d layers, but %d diffIDs", len(docker[0].Layers), len(config.RootFS.DiffIDs))
	}
	for i, l := range docker[0].Layers {
		body, ok := find(entries, l)
		if !ok {
			ts.Fatalf("manifest.json names %s, which is not there", l)
		}
		if got := digest.FromBytes(decompress(ts, body)); got != config.RootFS.DiffIDs[i] {
			ts.Fatalf("the content of %s has the diffID %s, want %s", l, got, config.RootFS.DiffIDs[i])
		}
	}
	var layout ocispec.ImageLayout
	unmarshal(ts, entries, "oci-layout", &layout)
	var index ocispec.Index
	unmarshal(ts, entries, "index.json", &index)
	for _, m := range index.Manifests {
		if !seen["blobs/"+strings.Replace(m.Digest.String(), ":", "/", 1)] {
			ts.Fatalf("index.json names %s, which is not there", m.Digest)
		}
	}
	if len(index.Manifests) == 0 {
		ts.Fatalf("index.json names nothing")
	}
}

// decompress undoes what the first bytes tell, as loaders do.
func decompress(ts *testscript.TestScript, body []byte) []byte {
	var r io.Reader = bytes.NewReader(body)
	switch {
	case bytes.HasPrefix(body, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		ts.Check(err)
		r = z
	case bytes.HasPrefix(body, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r)
		ts.Check(err)
		defer z.Close()
		r = z
	}
	plain, err := io.ReadAll(r)
	ts.Check(err)
	return plain
}

func unmarshal(ts *testscript.TestScript, entries []tarEntry, name string, v any) {
	raw, ok := find(entries, name)
	if !ok {
		ts.Fatalf("the tar has no %q", name)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		ts.Fatalf("%s: %v", name, err)
	}
}

// json FILE PATH REGEXP: a field of a JSON file (or of stdout, stderr) matches
// whole. PATH has field names and indexes: 0.RepoTags.0. A file with a value a
// line is a list. With !, the field is not there.
func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg && len(args) != 2 || !neg && len(args) != 3 {
		ts.Fatalf("usage: json FILE PATH REGEXP, ! json FILE PATH")
	}
	value, ok := lookUp(decode(ts, args[0]), args[1])
	if neg {
		if ok {
			ts.Fatalf("%s is there: %s", args[1], value)
		}
		return
	}
	if !ok {
		ts.Fatalf("no %s in %s", args[1], ts.ReadFile(args[0]))
	}
	if !regexp.MustCompile(`^(?:` + args[2] + `)$`).MatchString(value) {
		ts.Fatalf("%s is %s, want %s", args[1], value, args[2])
	}
}

func decode(ts *testscript.TestScript, file string) any {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	dec.UseNumber()
	var values []any
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			ts.Fatalf("%s is no JSON: %v", file, err)
		}
		values = append(values, v)
	}
	if len(values) == 1 {
		return values[0]
	}
	return values
}

func lookUp(v any, path string) (string, bool) {
	for _, key := range strings.Split(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			// Keys with dots are written with slashes.
			next, ok := at[strings.ReplaceAll(key, "/", ".")]
			if !ok {
				return "", false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				return "", false
			}
			v = at[i]
		default:
			return "", false
		}
	}
	if s, ok := v.(string); ok {
		return s, true
	}
	raw, err := json.Marshal(v)
	return string(raw), err == nil
}

// fill FILE BYTES TEXT writes a file of so many bytes with a text over and over.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: fill FILE BYTES TEXT")
	}
	n := int(size(ts, args[1]))
	body := bytes.Repeat([]byte(args[2]), n/len(args[2])+1)[:n]
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), body, 0o666))
}

// basicauth USER:PASSWORD FILE writes what docker login does for $REGISTRY.
func basicauth(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: basicauth USER:PASSWORD FILE")
	}
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`,
		ts.Getenv("REGISTRY"), base64.StdEncoding.EncodeToString([]byte(args[0])))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(config), 0o600))
}
