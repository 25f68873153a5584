package hosts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// daemonJSON is what Docker's daemon.json files say, put together (dockerd,
// "Daemon configuration file", registry-mirrors and insecure-registries).
type daemonJSON struct {
	mirrors  []daemonMirror
	insecure []insecureEntry
}

// daemonMirror is a mirror of Docker Hub.
type daemonMirror struct {
	target
	unsupported string
	file        string
}

// insecureEntry is a host, or all whose address is within a network.
type insecureEntry struct {
	host    string
	network netip.Prefix
	file    string
}

// loadDaemonJSON reads the files. Of those that are not there or may not be
// read, unread tells the latter: they are root's, and most hosts need nothing
// that they could say.
func loadDaemonJSON(files []string) (conf daemonJSON, unread []error, err error) {
	for _, path := range files {
		data, err := os.ReadFile(path)
		switch {
		case missing(err):
			continue
		case errors.Is(err, fs.ErrPermission):
			unread = append(unread, err)
			continue
		case err != nil:
			return daemonJSON{}, nil, fmt.Errorf("read Docker's configuration: %w", err)
		}
		if err := conf.read(path, data); err != nil {
			return daemonJSON{}, nil, fmt.Errorf("read Docker's configuration %s: %w", path, err)
		}
	}
	return conf, unread, nil
}

func (c *daemonJSON) read(path string, data []byte) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // Windows' editors, which Docker allows for
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	var file struct {
		Mirrors  []string `json:"registry-mirrors"`
		Insecure []string `json:"insecure-registries"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("line %d: %w", lineOf(data, err), err)
	}
	for _, written := range file.Mirrors {
		t, unsupported, err := targetOf(written, false)
		if err != nil {
			return fmt.Errorf("registry-mirrors: %w", err)
		}
		t.reach = Host{Scheme: t.scheme, Source: path}
		c.mirrors = append(c.mirrors, daemonMirror{t, unsupported, path})
	}
	for _, written := range file.Insecure {
		entry, err := insecureOf(written)
		if err != nil {
			return fmt.Errorf("insecure-registries: %w", err)
		}
		entry.file = path
		c.insecure = append(c.insecure, entry)
	}
	return nil
}

// insecureOf reads a host, a host:port or a network. Docker drops a scheme.
func insecureOf(written string) (insecureEntry, error) {
	host := strings.ToLower(strings.TrimSuffix(written, "/"))
	host = strings.TrimPrefix(strings.TrimPrefix(host, "http://"), "https://")
	if network, err := netip.ParsePrefix(host); err == nil {
		return insecureEntry{network: network.Masked()}, nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		host = "[" + host + "]"
	}
	if !validHost(host) {
		if strings.Contains(host, "@") {
			return insecureEntry{}, errors.New("an entry has a user name or password")
		}
		return insecureEntry{}, fmt.Errorf("%q is no host, host:port or network such as 10.0.0.0/8", written)
	}
	return insecureEntry{host: canonical(host)}, nil
}

// find is what is said of a host. A network has the hosts that are literally
// an address in it: names are not resolved for that. Docker Hub is never
// insecure, as with Docker.
func (c *daemonJSON) find(host string) Host {
	if host == hub {
		return Host{}
	}
	addr, literal := address(host)
	i := slices.IndexFunc(c.insecure, func(e insecureEntry) bool {
		return e.host == host || literal && e.network.Contains(addr)
	})
	if i < 0 {
		return Host{}
	}
	return Host{Insecure: true, Plain: true, Source: c.insecure[i].file}
}

// lineOf is the line where JSON is malformed.
func lineOf(data []byte, err error) int {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := int64(len(data))
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	return 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n"))
}
