package layout

import (
	"context"
	"errors"
	"io"

	"github.com/davit-cli/davit/image"
)

const PartialDir = ".davit-part"

type Options struct {
	Restart bool
	Events  image.EventFunc
}
type Writer struct{}

func Create(string, []image.Image, Options) (*Writer, error)                 { return nil, errors.New("stub") }
func (*Writer) Place(context.Context, image.Descriptor) (image.Place, error) { return nil, nil }
func (*Writer) Done(image.Descriptor) error                                  { return nil }
func (*Writer) Commit(context.Context) error                                 { return nil }
func (*Writer) Close() error                                                 { return nil }
func (*Writer) Use([]image.Image)                                            {}
func (*Writer) Blob(func(io.Writer) (image.Descriptor, error)) error         { return nil }
