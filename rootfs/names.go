package rootfs

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// short makes a name fit for an error.
func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// name is what an entry of a layer is called.
type name struct {
	dir, base string // "" and "" for the root
	mark      byte   // 0, typeWhiteout or typeOpaque
}

const whiteoutPrefix = ".wh."

// parseName reads an entry's name. Names are relative to the root, whatever
// they look like. skip tells that the entry is of AUFS's bookkeeping.
func parseName(s string) (n name, skip bool, err error) {
	clean := path.Clean("/" + s)[1:]
	if len(clean) >= maxPath {
		return n, false, fmt.Errorf("the path has %d bytes, more than %d", len(clean), maxPath-1)
	}
	if slash := strings.LastIndexByte(clean, '/'); slash >= 0 {
		n.dir, n.base = clean[:slash], clean[slash+1:]
	} else {
		n.base = clean
	}
	if !strings.Contains(clean, whiteoutPrefix) {
		return n, false, nil
	}
	for part := range strings.SplitSeq(n.dir, "/") {
		if strings.HasPrefix(part, whiteoutPrefix+whiteoutPrefix) {
			return n, true, nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return n, false, errors.New("a whiteout is no directory")
		}
	}
	of, ok := strings.CutPrefix(n.base, whiteoutPrefix)
	switch {
	case !ok:
	case of == whiteoutPrefix+".opq":
		n.base, n.mark = "", typeOpaque
	case strings.HasPrefix(of, whiteoutPrefix):
		return n, true, nil
	case of == "" || of == "." || of == "..":
		return n, false, errors.New("a whiteout of nothing")
	default:
		n.base, n.mark = of, typeWhiteout
	}
	return n, false, nil
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}
