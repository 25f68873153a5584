package davit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/davit-cli/davit/image"
)

// openStore opens what is at a path.
func openStore(path string) (image.Store, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open %s: %w: there is no such file or directory", path, image.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("open the image: %w", err) // it names the path
	}
	_ = info
	return nil, errors.New("the stores are being written")
}
