package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// object is a JSON object whose members keep their order and their bytes, so
// that what davit does not know passes through unchanged.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

// readObject reads an object. Nothing at all, and null, are an empty one.
func readObject(data []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	begin, err := dec.Token()
	if errors.Is(err, io.EOF) || err == nil && begin == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if begin != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	var o object
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: name.(string)} // JSON has no other names
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		o = append(o, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return o, nil
}

// with is o with that value under that name: at its place, or else at the end.
func (o object) with(name string, value json.RawMessage) object {
	o, found := slices.Clone(o), false
	for i := range o {
		if o[i].name == name {
			o[i].value, found = value, true
		}
	}
	if !found {
		o = append(o, member{name, value})
	}
	return o
}

// encode writes the object in one line.
func (o object) encode() (json.RawMessage, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), m.value...)
	}
	return append(b, '}'), nil
}
