// Command tocwriter reads a tar and writes it as a layer with a table of
// contents, by the code of those who made the formats: eStargz by containerd's
// stargz-snapshotter, zstd:chunked by containers/storage. The annotations that
// belong into the layer's descriptor go to stderr, as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/containerd/stargz-snapshotter/estargz"
	"go.podman.io/storage/pkg/chunked/compressor"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tocwriter:", err)
		os.Exit(1)
	}
}

func write(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("wanted are the format, estargz or zstd:chunked, a tar, and the layer to write")
	}
	in, err := os.Open(args[1])
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(args[2])
	if err != nil {
		return err
	}
	annotations := map[string]string{}
	switch args[0] {
	case "estargz":
		err = writeEstargz(in, out, annotations)
	case "zstd:chunked":
		err = writeZstdChunked(in, out, annotations)
	default:
		err = fmt.Errorf("unknown format %q", args[0])
	}
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stderr).Encode(annotations)
}

func writeEstargz(in *os.File, out io.Writer, annotations map[string]string) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	blob, err := estargz.Build(io.NewSectionReader(in, 0, info.Size()))
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, blob); err != nil {
		return err
	}
	if err := blob.Close(); err != nil {
		return err
	}
	size, err := blob.UncompressedSize()
	annotations[estargz.TOCJSONDigestAnnotation] = blob.TOCDigest().String()
	annotations[estargz.StoreUncompressedSizeAnnotation] = strconv.FormatInt(size, 10)
	return err
}

func writeZstdChunked(in io.Reader, out io.Writer, annotations map[string]string) error {
	w, err := compressor.ZstdCompressor(out, annotations, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	return w.Close()
}
