package rootfs

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

const paxXattr = "SCHILY.xattr."

// encodeXattrs gives the extended attributes one form, sorted by name.
func encodeXattrs(records map[string]string) string {
	var keys []string
	for k := range records {
		if strings.HasPrefix(k, paxXattr) && len(k) > len(paxXattr) {
			keys = append(keys, k)
		}
	}
	if keys == nil {
		return ""
	}
	slices.SortFunc(keys, cmp.Compare)
	var b []byte
	for _, k := range keys {
		for _, s := range []string{k[len(paxXattr):], records[k]} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return string(b)
}

func decodeXattrs(s string) map[string]string {
	if s == "" {
		return nil
	}
	next := func() string {
		n, w := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
		v := s[w : w+int(n)]
		s = s[w+int(n):]
		return v
	}
	m := map[string]string{}
	for s != "" {
		k := next()
		m[k] = next()
	}
	return m
}
