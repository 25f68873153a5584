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
	"io/fs"
	"os"
	"regexp"
	"slices"
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
	r := tar.NewReader(bytes.NewReader(decompress(ts, []byte(ts.ReadFile(path)))))
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

// filedigest FILE DIGEST: the file has that digest.
func filedigest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: filedigest FILE DIGEST")
	}
	if got := digest.Digest(args[1]).Algorithm().FromString(ts.ReadFile(args[0])); got.String() != args[1] {
		ts.Fatalf("%s has the digest %s, want %s", args[0], got, args[1])
	}
}

// expand FILE puts the values of $VARIABLES into a file.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o666))
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

// tardrop FILE NAME… writes a tar anew without those files. An archive without
// index.json is read as docker save's.
func tardrop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tardrop FILE NAME…")
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range readTar(ts, args[0]) {
		if slices.Contains(args[1:], e.header.Name) {
			continue
		}
		ts.Check(w.WriteHeader(e.header))
		_, err := w.Write(e.body)
		ts.Check(err)
	}
	ts.Check(w.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o666))
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

// tarverify FILE [N] checks what every loader relies on, in an archive of N
// images (one): each blob has the digest that is its name; manifest.json names
// configs and layers that are there, and each layer's content has the config's
// diffID; index.json leads to the same.
func tarverify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: tarverify FILE [N]")
	}
	entries := readTar(ts, args[0])
	images := verifyLayout(ts, entries, args[1:])
	var docker []struct {
		Config string
		Layers []string
	}
	unmarshal(ts, entries, "manifest.json", &docker)
	if len(docker) != images {
		ts.Fatalf("manifest.json names %d images, want %d", len(docker), images)
	}
	for _, d := range docker {
		verifyLayers(ts, entries, d.Config, d.Layers)
	}
}

// layoutverify DIR [N] checks the same of an image layout of N images.
func layoutverify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: layoutverify DIR [N]")
	}
	var entries []tarEntry
	top := os.DirFS(ts.MkAbs(args[0]))
	ts.Check(fs.WalkDir(top, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(top, name)
		entries = append(entries, tarEntry{&tar.Header{Name: name}, body})
		return err
	}))
	verifyLayout(ts, entries, args[1:])
}

// verifyLayout checks the blobs and index.json of so many images.
func verifyLayout(ts *testscript.TestScript, entries []tarEntry, count []string) (images int) {
	images = 1
	if len(count) > 0 {
		images = int(size(ts, count[0]))
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.header.Name] {
			ts.Fatalf("%s is there twice", e.header.Name)
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
	var layout ocispec.ImageLayout
	unmarshal(ts, entries, "oci-layout", &layout)
	if layout.Version != ocispec.ImageLayoutVersion {
		ts.Fatalf("oci-layout is of version %q", layout.Version)
	}
	var index ocispec.Index
	unmarshal(ts, entries, "index.json", &index)
	for _, d := range index.Manifests {
		verifyManifest(ts, entries, d)
	}
	if len(index.Manifests) != images {
		ts.Fatalf("index.json names %d images, want %d", len(index.Manifests), images)
	}
	return images
}

// blobFile is a digest's file in a layout.
func blobFile(d digest.Digest) string {
	return "blobs/" + strings.Replace(d.String(), ":", "/", 1)
}

// verifyManifest checks that what a manifest names is there; of an index at
// least one manifest is.
func verifyManifest(ts *testscript.TestScript, entries []tarEntry, d ocispec.Descriptor) {
	var doc struct {
		ocispec.Manifest
		Manifests []ocispec.Descriptor
	}
	unmarshal(ts, entries, blobFile(d.Digest), &doc)
	if body, _ := find(entries, blobFile(d.Digest)); int64(len(body)) != d.Size {
		ts.Fatalf("%s has %d bytes, its descriptor says %d", d.Digest, len(body), d.Size)
	}
	if doc.Manifests == nil {
		var layers []string
		for _, l := range doc.Layers {
			if body, ok := find(entries, blobFile(l.Digest)); !ok || int64(len(body)) != l.Size {
				ts.Fatalf("the layer %s of %s is not there, or not of its size", l.Digest, d.Digest)
			}
			layers = append(layers, blobFile(l.Digest))
		}
		verifyLayers(ts, entries, blobFile(doc.Config.Digest), layers)
		return
	}
	present := 0
	for _, inner := range doc.Manifests {
		if _, ok := find(entries, blobFile(inner.Digest)); ok {
			verifyManifest(ts, entries, inner)
			present++
		}
	}
	if present == 0 {
		ts.Fatalf("of the index %s no manifest is there", d.Digest)
	}
}

// verifyLayers checks that the layers are there, and have the diffIDs that an
// image's config tells.
func verifyLayers(ts *testscript.TestScript, entries []tarEntry, configName string, layers []string) {
	var config ocispec.Image
	unmarshal(ts, entries, configName, &config)
	if len(config.RootFS.DiffIDs) == 0 {
		return // no image's
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		ts.Fatalf("%d layers, but %d diffIDs", len(layers), len(config.RootFS.DiffIDs))
	}
	for i, l := range layers {
		body, ok := find(entries, l)
		if !ok {
			ts.Fatalf("%s is named, but not there", l)
		}
		if got := digest.FromBytes(decompress(ts, body)); got != config.RootFS.DiffIDs[i] {
			ts.Fatalf("the content of %s has the diffID %s, want %s", l, got, config.RootFS.DiffIDs[i])
		}
	}
}

// tartree FILE prints what is in a tar, compressed or not, a line each:
//
//	-rw-r--r-- 0/0 5 etc/motd
//	lrwxrwxrwx 0/0 0 var/run -> /run
func tartree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tartree FILE")
	}
	for _, e := range readTar(ts, args[0]) {
		h := e.header
		mode := h.FileInfo().Mode().String()
		target := ""
		switch h.Typeflag {
		case tar.TypeSymlink:
			mode, target = "l"+mode[1:], " -> "+h.Linkname
		case tar.TypeLink:
			mode, target = "h"+mode[1:], " = "+h.Linkname
		}
		_, _ = fmt.Fprintf(ts.Stdout(), "%s %d/%d %d %s%s\n", mode, h.Uid, h.Gid, h.Size, h.Name, target)
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

// damage FILE OFFSET flips a bit of that byte; offsets below zero count from
// the end.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FILE OFFSET")
	}
	body := []byte(ts.ReadFile(args[0]))
	body[place(ts, body, args[1])] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), body, 0o666))
}

// cut FILE BYTES leaves so many bytes of a file; below zero: all but so many.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut FILE BYTES")
	}
	body := []byte(ts.ReadFile(args[0]))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), body[:place(ts, body, args[1])], 0o666))
}

// place is an offset within a file.
func place(ts *testscript.TestScript, body []byte, offset string) int {
	n, err := strconv.Atoi(offset)
	ts.Check(err)
	if n < 0 {
		n += len(body)
	}
	if n < 0 || n >= len(body) {
		ts.Fatalf("the file has %d bytes, and none at %s", len(body), offset)
	}
	return n
}

// join TO FILE… writes the files one behind the other, as cat does.
func join(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: join TO FILE…")
	}
	var all strings.Builder
	for _, from := range args[1:] {
		all.WriteString(ts.ReadFile(from))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(all.String()), 0o666))
}

// pack FILE TO compresses a file with gzip.
func pack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pack FILE TO")
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, ts.ReadFile(args[0]))
	ts.Check(errors.Join(err, w.Close()))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), packed.Bytes(), 0o666))
}

// parts FILE SIZE writes a file's bytes as FILE.001, FILE.002 and so on, as
// split -b SIZE -d -a 3 --numeric-suffixes=1 does.
func parts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: parts FILE SIZE")
	}
	n := 0
	for part := range slices.Chunk([]byte(ts.ReadFile(args[0])), int(size(ts, args[1]))) {
		n++
		ts.Check(os.WriteFile(fmt.Sprintf("%s.%03d", ts.MkAbs(args[0]), n), part, 0o666))
	}
}

// basicauth USER:PASSWORD FILE [NAME] writes what docker login does for $REGISTRY,
// or the registry that was started by that name.
func basicauth(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 3 {
		ts.Fatalf("usage: basicauth USER:PASSWORD FILE [REGISTRY]")
	}
	registry := "REGISTRY"
	if len(args) == 3 {
		registry = args[2]
	}
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`,
		ts.Getenv(registry), base64.StdEncoding.EncodeToString([]byte(args[0])))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(config), 0o600))
}
