package layout

import (
	"encoding/json"
	"maps"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// readDelta reads what the annotations say was left out.
func (x *index) readDelta() error {
	var raw json.RawMessage
	if err := x.fields.read("annotations", &raw); err != nil {
		return err
	}
	if raw == nil || string(raw) == "null" {
		return nil
	}
	var err error
	if x.annotations, err = readObject(raw); err != nil {
		return err
	}
	for _, f := range x.annotations {
		if f.name != image.AnnotationDelta {
			continue
		}
		var value string
		if err := json.Unmarshal(f.value, &value); err != nil {
			return err
		}
		if x.delta, err = image.ParseDelta(map[string]string{f.name: value}); err != nil {
			return err
		}
	}
	return nil
}

// leaveOut notes what the images leave out besides what is left out already,
// but for blobs that are there. A blob that both leave out is where the images
// say.
func (x *index) leaveOut(images []image.Image, there func(digest.Digest) bool) error {
	delta := image.Delta{}
	maps.Copy(delta, x.delta)
	maps.Copy(delta, image.DeltaOf(images...))
	maps.DeleteFunc(delta, func(d digest.Digest, _ string) bool { return there(d) })
	if len(delta) == 0 && len(x.delta) == 0 {
		return nil
	}
	value, err := delta.Encode()
	if err != nil {
		return err
	}
	annotations := x.annotations.without(image.AnnotationDelta)
	if value != "" {
		encoded, err := encodeString(value)
		if err != nil {
			return err
		}
		annotations = x.annotations.with(image.AnnotationDelta, encoded)
	}
	x.delta, x.annotations = delta, annotations
	if len(annotations) == 0 {
		x.fields = x.fields.without("annotations")
		return nil
	}
	raw, err := annotations.encode()
	if err == nil {
		x.fields = x.fields.with("annotations", raw)
	}
	return err
}
