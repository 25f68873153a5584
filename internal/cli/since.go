package cli

import (
	"os"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/hosts"
)

const sinceHelp = `
--since BASE leaves out the layers that the other side has: an archive, a layout, a
directory of components, an image in a registry (of all platforms), or a text file
that lists digests of blobs, one a line, as sha256sum writes them too. What is
written is a delta; davit apply BASE DELTA -o FILE makes it whole there. Configs
and manifests are always in it.`

// parseSince reads the bases that are in registries, which may be aliases.
func (o *pullOptions) parseSince(config *hosts.Config) error {
	for i, name := range o.since {
		if name == "" {
			return usagef("--since is empty")
		}
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			continue
		}
		at, err := davit.ParseLocation(name)
		switch {
		case err != nil:
			return usagef("--since: %w", err)
		case at.Path != "":
			continue
		}
		r, meant, err := parseName(config, name)
		if err != nil {
			return usagef("--since: %w", err)
		}
		if meant != nil {
			o.aliases = append(o.aliases, *meant)
			o.since[i] = r.String()
		}
		o.bases = append(o.bases, r)
	}
	return nil
}
