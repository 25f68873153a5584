//go:build linux

package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/internal/memregistry"
)

// pushTrees adds an image of real files to a registry: in its first layer
// Debian, which e2e/install makes, in the others Go's sources and programs,
// each time in another directory. Its layers stand in files in dir. It returns
// the size of all blobs.
func pushTrees(to *memregistry.Registry, dir string, layers int) (size int64, err error) {
	said, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return 0, fmt.Errorf("find Go's tree: %w", err)
	}
	goroot := strings.TrimSpace(string(said))
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: make([]ocispec.Descriptor, layers)}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: make([]digest.Digest, layers)}}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range layers {
		group.Go(func() (err error) {
			write := func(w io.Writer) error { return goTree(w, goroot, fmt.Sprintf("opt/go%d", i)) }
			if i == 0 {
				write = debian
			}
			f, err := os.Create(filepath.Join(dir, fmt.Sprint("layer-", i)))
			if err != nil {
				return err
			}
			manifest.Layers[i], config.RootFS.DiffIDs[i], err = layerOf(f, write)
			to.AddBlobAt(manifest.Layers[i], f) // open as long as it is served
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("make a layer: %w", err)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return 0, err
	}
	manifest.Config = to.AddBlob(raw)
	manifest.Config.MediaType = ocispec.MediaTypeImageConfig
	if raw, err = json.Marshal(manifest); err != nil {
		return 0, err
	}
	to.AddManifest(repository, tag, manifest.MediaType, raw)
	size = manifest.Config.Size
	for _, d := range manifest.Layers {
		size += d.Size
	}
	return size, nil
}

// layerOf writes a gzip layer, of gzip's usual level.
func layerOf(f *os.File, write func(io.Writer) error) (d ocispec.Descriptor, diffID digest.Digest, err error) {
	blob, plain := digest.SHA256.Digester(), digest.SHA256.Digester()
	w, err := gzip.NewWriterLevel(io.MultiWriter(f, blob.Hash()), 6)
	if err != nil {
		return d, "", err
	}
	err = errors.Join(write(io.MultiWriter(w, plain.Hash())), w.Close())
	size, seekErr := f.Seek(0, io.SeekCurrent)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: blob.Digest(), Size: size}, plain.Digest(), errors.Join(err, seekErr)
}

func debian(w io.Writer) error {
	f, err := os.Open(filepath.Join("e2e", ".bin", "bookworm.tar"))
	if err != nil {
		return fmt.Errorf("no Debian, which e2e/install makes: %w", err)
	}
	defer func() { _ = f.Close() }() // it is only read
	_, err = io.Copy(w, f)
	return err
}

func goTree(w io.Writer, goroot, name string) error {
	out := tar.NewWriter(w)
	for _, part := range []string{"bin", "src"} {
		if err := addTree(out, filepath.Join(goroot, part), name+"/"+part); err != nil {
			return err
		}
	}
	return out.Close()
}

func addTree(out *tar.Writer, dir, name string) error {
	return filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&os.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		header.Name = name + strings.TrimPrefix(path, dir)
		if info.IsDir() {
			header.Name += "/"
		}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it is only read
		_, err = io.Copy(out, f)
		return err
	})
}
