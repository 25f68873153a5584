package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

const (
	// tagsPatience is how long somebody who has pressed Tab waits for tags.
	tagsPatience = 3 * time.Second
	// maxTagsShown is how many tags are offered: nobody reads more.
	maxTagsShown = 1000
)

// completeTags are the images of the repository that is typed, for each tag
// that begins as typed, but for those of referrers. Whatever goes wrong, there
// are none: nobody reads an error there.
func completeTags(ctx context.Context, flags *registryFlags, typed string) []string {
	name, begin, ok := cutTag(typed)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tagsPatience)
	defer cancel()
	var found []string
	err := listTags(ctx, flags.unasked(), name, func(tag string) bool {
		if strings.HasPrefix(tag, begin) && !image.IsReferrersTag(tag) {
			found = append(found, name+":"+tag)
		}
		return len(found) < maxTagsShown
	})
	if err != nil {
		return nil
	}
	slices.Sort(found)
	return found
}

// cutTag parts what is typed at the colon before the tag.
func cutTag(typed string) (name, tag string, ok bool) {
	i := strings.LastIndexByte(typed, ':')
	if i <= 0 || strings.ContainsAny(typed[i:], "/@") || strings.Contains(typed[:i], "@") {
		return "", "", false
	}
	return typed[:i], typed[i+1:], true
}

// unasked are the flags without those that would read a password or token:
// stdin is the terminal on which somebody types the command line.
func (f *registryFlags) unasked() *registryFlags {
	quiet := *f
	quiet.login.username, quiet.login.passwordStdin, quiet.login.tokenStdin = "", false, false
	return &quiet
}

// listTags gives the tags of a repository to fn, until that has enough.
func listTags(ctx context.Context, flags *registryFlags, name string, fn func(tag string) bool) error {
	config, err := flags.reach.files()
	if err != nil {
		return err
	}
	r, _, err := parseName(config, name)
	if err != nil {
		return err
	}
	references := []ref.Reference{r}
	if err := flags.reach.validate(references); err != nil {
		return err
	}
	opts, err := flags.options(ctx, streams{}, references)
	if err != nil {
		return err
	}
	opts.Retries = -1
	session := registry.NewSession(opts)
	defer func() { _ = session.Close() }()
	route, err := session.Route(r)
	if err != nil {
		return err
	}
	repository, err := session.OpenEndpoint(route.Origin)
	if err != nil {
		return err
	}
	enough := errors.New("enough")
	err = repository.Tags(ctx, func(page []string) error {
		for _, tag := range page {
			if !fn(tag) {
				return enough
			}
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

// completeStored are the images on disk that begin as typed behind their path
// and a colon. stored says that a path is typed, so that no registry is to be
// asked. Whatever goes wrong, there are none.
func completeStored(ctx context.Context, typed string) (found []string, stored bool) {
	at, err := davit.ParseLocation(typed)
	if err != nil || at.Path == "" {
		return nil, false
	}
	path := strings.TrimSuffix(typed, at.Image)
	if !strings.HasSuffix(path, ":") || strings.HasSuffix(at.Path, ":") {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, tagsPatience)
	defer cancel()
	names, err := davit.StoredNames(ctx, at.Path)
	if err != nil {
		return nil, true
	}
	for _, name := range names {
		if strings.HasPrefix(name, at.Image) && completable(name) && len(found) < maxTagsShown {
			found = append(found, path+name)
		}
	}
	slices.Sort(found)
	return found, true
}

// completable says whether a name may be offered: shown as it is, and run by no
// shell.
func completable(name string) bool {
	return line(name) == name && !strings.ContainsAny(name, shellRuns)
}

// shellRuns are the characters by which a shell runs what stands in a name. Bash
// writes what several names begin with as it is, and cobra's script evaluates the
// line at the next Tab: such a name is for the user to type, with quotes.
const shellRuns = "$`;&|<>"

// completePaths are the archives and directories that begin as typed,
// directories with a slash behind them. descend says that they are directories
// alone: there is more to type.
func completePaths(typed string) (paths []string, descend bool) {
	dir, begin := filepath.Split(typed)
	entries, err := os.ReadDir(filepath.Join(dir, "."))
	if err != nil {
		return nil, false
	}
	descend = true
	for _, e := range entries {
		name := e.Name()
		hidden := strings.HasPrefix(name, ".") && begin == "" || strings.HasSuffix(name, partial.Suffix)
		if hidden || !strings.HasPrefix(name, begin) || !completable(name) {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name)) // also what a link leads to
		switch {
		case err != nil:
		case info.IsDir():
			paths = append(paths, dir+name+"/")
		case info.Mode().IsRegular() && davit.IsArchiveName(name):
			paths = append(paths, dir+name)
			descend = false
		}
	}
	return paths, descend
}
