package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// defaultDir is containerd's directory for hosts that have none of their own.
const defaultDir = "_default"

// tree is a directory of directories for hosts: a certs.d.
type tree struct {
	root string
	tool tool
}

// tool is whose rules a tree follows.
type tool int

const (
	containers tool = iota // Podman, Buildah, skopeo
	docker
	containerd
)

// trees are all certs.d directories, those that go before others first:
// containers' (containers-certs.d(5)), Docker's, containerd's; of each tool the
// user's before the system's. Docker's are those of its rootless mode, Docker
// Desktop's, and the daemon's.
func (p paths) trees() []tree {
	var trees []tree
	add := func(t tool, roots ...string) {
		for _, root := range present(roots...) {
			trees = append(trees, tree{root, t})
		}
	}
	add(containers, p.dropIns("certs", ".d")...)
	add(docker, below(p.userConfig, "docker", "certs.d"), below(p.home, ".docker", "certs.d"), below(p.docker, "certs.d"))
	add(containerd, below(p.userConfig, "containerd", "certs.d"), below(p.containerd, "certs.d"))
	return trees
}

// names are what a host's directory may be called, in the order that its tool
// looks for them. containerd and, since it uses containerd's store, Docker
// know host_port_ too, and _default for all others. Windows has no colons in
// file names: Docker and containerd leave them out there.
func (t tree) names(host string, windows bool) []string {
	hosts := []string{host}
	if host == hub {
		hosts = append(hosts, hubHost)
	}
	if t.tool == containers {
		return slices.DeleteFunc(hosts, func(host string) bool { return windows && strings.Contains(host, ":") })
	}
	var names []string
	for _, host := range hosts {
		if i := strings.LastIndexByte(host, ':'); i > 0 && !strings.HasSuffix(host, "]") {
			names = append(names, host[:i]+"_"+host[i+1:]+"_")
		}
		names = append(names, host)
	}
	names = append(names, defaultDir)
	if windows {
		for i, name := range names {
			names[i] = strings.ReplaceAll(name, ":", "")
		}
	}
	return names
}

// dir is the directory for a canonical host, or empty. A tree that we may not
// look into has none for us, as for the tools that it belongs to (Unread tells
// of it).
func (t tree) dir(host string, windows bool) (string, error) {
	for _, name := range t.names(host, windows) {
		path := filepath.Join(t.root, name)
		_, err := os.Stat(path)
		switch {
		case err == nil:
			return path, nil
		case !missing(err) && !errors.Is(err, fs.ErrPermission):
			return "", fmt.Errorf("read configuration: %w", err)
		}
	}
	return "", nil
}

// closed is the error that keeps us from looking into the tree, if there is one.
func (t tree) closed() error {
	_, err := os.Stat(t.root + string(filepath.Separator) + ".")
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// readCertificates reads the names in a host's directory: *.crt are CAs,
// *.cert and *.key certificates of ours with their keys (containers-certs.d(5),
// "Directory Structure"; Docker's and containerd's are the same). Files are
// only looked at as far as that they can be read. Without its key a *.cert is
// an error, but with containerd, where the key may be in it.
func (t tree) readCertificates(dir string) (Host, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Host{}, fmt.Errorf("read certificates: %w", err)
	}
	h := Host{Source: dir}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		base := strings.TrimSuffix(name, filepath.Ext(name))
		switch filepath.Ext(name) {
		case ".crt":
			h.CAFiles = append(h.CAFiles, path)
		case ".cert":
			key := filepath.Join(dir, base+".key")
			switch {
			case slices.Contains(names, base+".key"):
			case t.tool == containerd:
				key = path
			default:
				return Host{}, fmt.Errorf("client certificate %s has no key: %s is missing (a CA's certificate is called *.crt)", path, key)
			}
			h.KeyPairs = append(h.KeyPairs, KeyPair{CertFile: path, KeyFile: key})
		case ".key":
			if !slices.Contains(names, base+".cert") {
				return Host{}, fmt.Errorf("client key %s has no certificate: %s is missing", path, filepath.Join(dir, base+".cert"))
			}
		}
	}
	return h, h.readable()
}

// readable tells which of the files that h names cannot be read.
func (h *Host) readable() error {
	files := slices.Clone(h.CAFiles)
	for _, pair := range h.KeyPairs {
		files = append(files, pair.CertFile, pair.KeyFile)
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read certificates: %w", err)
		}
		_ = f.Close()
	}
	return nil
}
