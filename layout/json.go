package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// object is a JSON object whose fields keep their order and their bytes, so
// that what davit does not know passes through unchanged.
type object []field

type field struct {
	name  string
	value json.RawMessage
}

// readObject reads an object. A field that is there twice, or in two cases, is
// an error: two readers might understand it differently.
func readObject(b []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("it is no object")
	}
	o := object{}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		f := field{name: t.(string)}
		if seen[strings.ToLower(f.name)] {
			return nil, fmt.Errorf("the field %q is there twice", f.name)
		}
		seen[strings.ToLower(f.name)] = true
		if err := dec.Decode(&f.value); err != nil {
			return nil, err
		}
		o = append(o, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return o, nil
}

// read decodes a field into v, which stays as it is where there is none.
func (o object) read(name string, v any) error {
	for _, f := range o {
		if f.name == name {
			if err := json.Unmarshal(f.value, v); err != nil {
				return fmt.Errorf("the field %q: %w", name, err)
			}
		}
	}
	return nil
}

// with is o with a field of that value, at its place or else at the end.
func (o object) with(name string, value json.RawMessage) object {
	o = slices.Clone(o)
	for i := range o {
		if o[i].name == name {
			o[i].value = value
			return o
		}
	}
	return append(o, field{name, value})
}

// without is o without a field.
func (o object) without(name string) object {
	return slices.DeleteFunc(slices.Clone(o), func(f field) bool { return f.name == name })
}

// encode writes the object, without white space between its tokens.
func (o object) encode() (json.RawMessage, error) {
	b := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := encodeString(f.name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), f.value...)
	}
	return compact(append(b, '}'))
}

// encodeString writes a string with no more escapes than JSON wants.
func encodeString(s string) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// encodeArray writes an array.
func encodeArray(values []json.RawMessage) (json.RawMessage, error) {
	b := []byte{'['}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	return compact(append(b, ']'))
}

// compact drops the white space between tokens, and nothing else.
func compact(b []byte) (json.RawMessage, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
