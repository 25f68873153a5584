package davit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
)

// checkSaveConfig refuses to save the config as the output, or in it.
func (o PullOptions) checkSaveConfig(output string) error {
	if o.SaveConfig == "" || output == "" {
		return nil
	}
	config, err := filepath.Abs(o.SaveConfig)
	if err != nil {
		return err
	}
	if output, err = filepath.Abs(output); err != nil {
		return err
	}
	if rel, err := filepath.Rel(output, config); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("the config cannot be saved as %s: that is the output's place", o.SaveConfig)
	}
	return nil
}

// savedLayer is what a saved config tells of a layer.
type savedLayer struct {
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
	Digest    string `json:"digest"`
}

// makeConfigDir makes the directory of the saved config, so that it is found
// out before anything is fetched where there can be none.
func makeConfigDir(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("save the config as %s: %w", path, err)
	}
	return nil
}

// saveConfig writes an image's config without history and rootfs, with what
// its one layer is, or with the list of its layers where there are several.
// Its directory is there.
func saveConfig(path string, m image.Manifest) error {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(m.Config.Bytes, &config); err != nil {
		return fmt.Errorf("save the config: %w", err)
	}
	delete(config, "history")
	delete(config, "rootfs")
	var layers []savedLayer
	for _, d := range m.Carried() {
		layers = append(layers, savedLayer{d.MediaType, d.Size, d.Digest.String()})
	}
	var told any = struct {
		Layers []savedLayer `json:"layers"`
	}{layers}
	if len(layers) == 1 {
		told = layers[0]
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	fields, err := json.Marshal(told)
	if err == nil {
		err = json.Unmarshal(fields, &config) // adds to what is there
	}
	if err == nil {
		err = enc.Encode(config)
	}
	if err != nil {
		return fmt.Errorf("save the config: %w", err)
	}
	err = atomicfile.WriteOutput(path, func(w io.Writer) error {
		_, err := out.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("save the config as %s: %w", path, err)
	}
	return nil
}
