package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/BurntSushi/toml"
)

// missing tells whether the error is that a file is not there. A home such as
// /dev/null has nothing below it either.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// readTOML decodes the file at path. Errors name the file, and the line where
// it is malformed.
func readTOML(path string, v any) (toml.MetaData, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return toml.MetaData{}, fmt.Errorf("read configuration: %w", err)
	}
	return decodeTOML(path, data, v)
}

// decodeTOML decodes what was read of the file at path.
func decodeTOML(path string, data []byte, v any) (toml.MetaData, error) {
	meta, err := toml.Decode(string(data), v)
	if err != nil {
		return meta, fmt.Errorf("read %s: %w", path, err)
	}
	return meta, nil
}
