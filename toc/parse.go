package toc

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

const (
	maxRecord = 4 << 20  // bytes of one entry's JSON
	maxOwner  = 64 << 10 // different names of users and groups
	entryCost = 400      // bytes of memory, more or less, that an entry with a chunk takes, but for its texts
)

// record is an entry of the JSON, of either format.
type record struct {
	Name        string            `json:"name"`
	Type        string            `json:"type"`
	Size        int64             `json:"size"`
	ModTime     string            `json:"modtime"`
	AccessTime  string            `json:"accesstime"`
	ChangeTime  string            `json:"changetime"`
	LinkName    string            `json:"linkName"`
	Mode        int64             `json:"mode"`
	UID         int               `json:"uid"`
	GID         int               `json:"gid"`
	UserName    string            `json:"userName"`
	GroupName   string            `json:"groupName"`
	DevMajor    int64             `json:"devMajor"`
	DevMinor    int64             `json:"devMinor"`
	Xattrs      map[string][]byte `json:"xattrs"`
	Digest      string            `json:"digest"`
	Offset      int64             `json:"offset"`
	EndOffset   int64             `json:"endOffset"`
	InnerOffset int64             `json:"innerOffset"`
	ChunkSize   int64             `json:"chunkSize"`
	ChunkOffset int64             `json:"chunkOffset"`
	ChunkDigest string            `json:"chunkDigest"`
	ChunkType   string            `json:"chunkType"`
}

var kinds = map[string]byte{
	"dir":      tar.TypeDir,
	"reg":      tar.TypeReg,
	"symlink":  tar.TypeSymlink,
	"hardlink": tar.TypeLink,
	"char":     tar.TypeChar,
	"block":    tar.TypeBlock,
	"fifo":     tar.TypeFifo,
}

var emptyDigest = sha256.Sum256(nil)

// parse reads a table's JSON to its end. The chunks that it tells of lie before
// limit in the blob.
func (t *Table) parse(ctx context.Context, in io.Reader, limit int64) error {
	p := parser{Table: t, ctx: ctx, limit: limit, users: map[int]string{}, groups: map[int]string{}}
	p.meter = &meter{r: in}
	p.json = json.NewDecoder(p.meter)
	err := p.object()
	if err == nil {
		err = p.endFile()
	}
	switch {
	case err == nil:
		p.bound()
		return nil
	case errors.Is(err, errUnsupported), errors.Is(err, image.ErrVerification):
		return err
	}
	return wrong("%w", err) // it is JSON's, or the decompression's
}

type parser struct {
	*Table
	ctx   context.Context
	limit int64
	meter *meter
	json  *json.Decoder

	records       int
	users, groups map[int]string // by their number, as they are named once
	file          bool           // the last entry is a file, whose chunks may follow
	covered       int64          // bytes that its chunks have
	endOffset     int64          // where the last of them is over, 0 where that is not told
}

// object reads the JSON's outside.
func (p *parser) object() error {
	if err := p.delim('{'); err != nil {
		return err
	}
	version, entries := -1, false
	for p.json.More() {
		p.meter.left = maxRecord
		key, err := p.json.Token()
		if err != nil {
			return err
		}
		switch key {
		case "version":
			err = p.json.Decode(&version)
		case "entries":
			if entries {
				return errors.New("it has entries twice")
			}
			entries = true
			err = p.list()
		default:
			var other json.RawMessage
			err = p.json.Decode(&other)
		}
		if err != nil {
			return err
		}
	}
	if err := p.delim('}'); err != nil {
		return err
	}
	p.meter.left = maxRecord
	if _, err := p.json.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	if version != 1 {
		return errUnsupported
	}
	return nil
}

func (p *parser) delim(want json.Delim) error {
	p.meter.left = maxRecord
	if got, err := p.json.Token(); err != nil {
		return err
	} else if got != want {
		return fmt.Errorf("it has something else where %v is due", want)
	}
	return nil
}

func (p *parser) list() error {
	if err := p.delim('['); err != nil {
		return err
	}
	for p.json.More() {
		p.meter.left = maxRecord
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if p.records++; p.records > MaxEntries {
			return errUnsupported
		}
		var r record
		err := p.json.Decode(&r)
		if err == nil {
			err = p.add(r)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", p.records, err)
		}
	}
	return p.delim(']')
}

// add takes in what is either an entry or a further chunk of the one before.
func (p *parser) add(r record) error {
	if err := p.take(cost(r)); err != nil {
		return err
	}
	if r.Size < 0 || r.Size > image.MaxImageSize {
		return fmt.Errorf("it has the size %d", r.Size)
	}
	if r.Type == "chunk" {
		if !p.file || r.Name != "" && r.Name != p.last().name {
			return errors.New("it is a chunk of no file")
		}
		return p.addChunk(r)
	}
	if err := p.endFile(); err != nil {
		return err
	}
	e, err := p.entry(r)
	if err != nil {
		return err
	}
	p.entries = append(p.entries, e)
	if e.kind == tar.TypeReg && e.size > 0 {
		p.file, p.covered, p.endOffset = true, 0, r.EndOffset
		return p.addChunk(r)
	}
	return nil
}

// cost is the memory that an entry takes.
func cost(r record) int64 {
	n := int64(entryCost + len(r.Name) + len(r.LinkName))
	for name, value := range r.Xattrs {
		n += int64(len(name)+len(value)) + entryCost
	}
	return n
}

func (p *parser) last() *entry { return &p.entries[len(p.entries)-1] }

func (p *parser) entry(r record) (entry, error) {
	kind, ok := kinds[r.Type]
	switch {
	case !ok:
		return entry{}, errUnsupported
	case r.Name == "":
		return entry{}, errors.New("it has no name")
	}
	e := entry{
		name:  r.Name,
		link:  r.LinkName,
		mode:  r.Mode,
		uid:   r.UID,
		gid:   r.GID,
		kind:  kind,
		chunk: uint32(len(p.chunks)),
	}
	var err error
	if e.uname, err = named(p.users, r.UID, r.UserName); err != nil {
		return entry{}, err
	}
	if e.gname, err = named(p.groups, r.GID, r.GroupName); err != nil {
		return entry{}, err
	}
	if e.modTime, err = parseTime(r.ModTime); err != nil {
		return entry{}, err
	}
	if e.modTime.IsZero() {
		e.modTime = time.Unix(0, 0) // as a tar has none
	}
	if e.more, err = moreOf(r); err != nil || kind != tar.TypeReg {
		return e, err
	}
	e.size = r.Size
	if e.size == 0 {
		e.digest, e.told = emptyDigest, true
	}
	if r.Digest != "" {
		d, err := sum(digest.Digest(r.Digest))
		if err != nil {
			return entry{}, err
		}
		if e.size == 0 && d != emptyDigest {
			return entry{}, errors.New("it is empty, which its digest is not of")
		}
		e.digest, e.told = d, true
	}
	return e, nil
}

// moreOf is what few entries have, nil where this one has nothing of it.
func moreOf(r record) (*more, error) {
	access, err := parseTime(r.AccessTime)
	if err != nil {
		return nil, err
	}
	change, err := parseTime(r.ChangeTime)
	if err != nil {
		return nil, err
	}
	if access.IsZero() && change.IsZero() && r.DevMajor == 0 && r.DevMinor == 0 && len(r.Xattrs) == 0 {
		return nil, nil
	}
	return &more{accessTime: access, changeTime: change, devMajor: r.DevMajor, devMinor: r.DevMinor, xattrs: r.Xattrs}, nil
}

// addChunk adds a chunk of the last entry.
func (p *parser) addChunk(r record) error {
	e := p.last()
	c := chunk{off: r.Offset, inner: r.InnerOffset, size: r.ChunkSize, zeros: r.ChunkType == "zeros"}
	left := e.size - p.covered
	if c.size == 0 {
		c.size = left
	}
	switch {
	case r.ChunkType != "" && !c.zeros:
		return errUnsupported
	case r.ChunkOffset != p.covered:
		return fmt.Errorf("its chunk begins at byte %d of the file, not %d", r.ChunkOffset, p.covered)
	case c.size <= 0 || c.size > left:
		return fmt.Errorf("its chunk has %d bytes, of %d that are missing", c.size, left)
	case c.off <= 0 || c.off >= p.limit || c.inner < 0 || c.inner > image.MaxImageSize:
		return fmt.Errorf("its chunk is at %d and %d", c.off, c.inner)
	}
	if e.chunks > 0 {
		before := p.chunks[len(p.chunks)-1]
		if c.off < before.off || c.off == before.off && c.inner-before.inner < before.size {
			return errors.New("its chunk stands before the one before")
		}
	}
	if r.ChunkDigest != "" {
		var err error
		if c.digest, err = sum(digest.Digest(r.ChunkDigest)); err != nil {
			return err
		}
		c.told = true
	}
	p.covered += c.size
	p.chunks = append(p.chunks, c)
	e.chunks++
	return nil
}

// endFile checks what can be checked when all chunks of a file are there.
func (p *parser) endFile() error {
	if !p.file {
		return nil
	}
	p.file = false
	e := p.last()
	if p.covered != e.size {
		return fmt.Errorf("the chunks of the file before have %d bytes, not %d", p.covered, e.size)
	}
	chunks := p.chunks[e.chunk:]
	last := &chunks[len(chunks)-1]
	if p.endOffset != 0 {
		if p.endOffset <= last.off || p.endOffset > p.limit {
			return fmt.Errorf("the file before is said to end at %d", p.endOffset)
		}
		last.end = p.endOffset
	}
	if len(chunks) == 1 && !last.zeros {
		switch {
		case !last.told:
			last.digest, last.told = e.digest, e.told
		case !e.told:
			e.digest, e.told = last.digest, true
		case last.digest != e.digest:
			return errors.New("the file before has two digests")
		}
	}
	if slices.ContainsFunc(chunks, func(c chunk) bool { return !c.told && !c.zeros }) {
		return errUnsupported // it proves nothing
	}
	return nil
}

// bound finds out where the chunks' streams are over at the latest: where the
// next one begins.
func (p *parser) bound() {
	offs := make([]int64, 0, len(p.chunks)+1)
	for _, c := range p.chunks {
		offs = append(offs, c.off)
	}
	offs = append(offs, p.limit)
	slices.Sort(offs)
	offs = slices.Compact(offs)
	for i := range p.chunks {
		c := &p.chunks[i]
		at, _ := slices.BinarySearch(offs, c.off+1)
		if c.end == 0 || offs[at] < c.end {
			c.end = offs[at]
		}
	}
}

// named is the name of an owner, which is told with the first of the entries
// that have it.
func named(names map[int]string, id int, name string) (string, error) {
	known := names[id]
	if name == "" || name == known {
		return known, nil
	}
	if len(names) >= maxOwner {
		return "", errUnsupported
	}
	names[id] = name
	return name, nil
}

func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, errors.New("its time is malformed")
	}
	return t, nil
}

// sum is a digest of SHA-256.
func sum(d digest.Digest) (out [sha256.Size]byte, err error) {
	if err := image.CheckDigest(d); err != nil {
		return out, err
	}
	if d.Algorithm() != digest.SHA256 {
		return out, errUnsupported
	}
	_, err = hex.Decode(out[:], []byte(d.Encoded()))
	return out, err
}

// meter ends what has no end: it gives so many bytes, until more are allowed.
type meter struct {
	r    io.Reader
	left int
}

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("a value has more than %d bytes", maxRecord)
	}
	n, err := m.r.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}
