package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
)

const filesLong = `List the files that a container of the image would see, or those below PATH, without
writing the image: layers are merged as they are read, with their whiteouts and
links. A layer with a table of contents (eStargz, zstd:chunked) is not fetched, but
for that table; any other is read through once. Sizes are those of the files.

IMAGE is a name in a registry, or an archive, an image layout or a directory of
components on disk. Directories end with a slash. Where PATH is a link to a
directory, it is followed, as that of /bin to /usr/bin.

Names are printed in one line each, without the control characters that may be in
them; --json has them exactly.

` + tocHelp

// tocHelp is what a table of contents is worth.
const tocHelp = `A table of contents is its author's word, for which the image's manifest vouches; a
tool that unpacks the layer reads the layer itself. --no-toc does as that tool does.`

const filesExample = `  davit files alpine
  davit files alpine /etc
  davit files alpine -l                     modes, owners, sizes, times, where links lead
  davit files ./alpine_latest.tar /bin --json | jq -r 'select(.type == "symlink") | .target'`

type filesOptions struct {
	lookFlags
	long bool
	path string
}

func newFiles(s streams) *cobra.Command {
	var o filesOptions
	cmd := &cobra.Command{
		Use:               "files IMAGE [PATH]",
		Short:             "List the files of an image",
		Long:              filesLong,
		Example:           filesExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.path, args = args[1], args[:1]
			}
			if err := o.parse(cmd, args, 1); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVarP(&o.long, "long", "l", false, "show modes, owners, sizes, times, and where links lead")
	o.addPlatform(cmd, "this machine's")
	o.addLayers(cmd)
	return cmd
}

func (o *filesOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	files, err := davit.ListFiles(ctx, o.targets[0].name, o.path, opts)
	shown.Close()
	if err != nil {
		return o.explain(ctx, err)
	}
	defer saveMemory()()
	for f := range files {
		if err := o.print(s.out, f); err != nil {
			return err
		}
	}
	return nil
}

func (o *filesOptions) print(w io.Writer, f davit.File) error {
	switch {
	case o.display.json:
		return printJSON(w, f)
	case o.long:
		return printLine(w, "%s", longFile(f))
	}
	return printLine(w, "%s", fileName(f))
}

// fileName is a file's path with the slash of a directory.
func fileName(f davit.File) string {
	if f.Type == davit.Directory && f.Path != "/" {
		return f.Path + "/"
	}
	return f.Path
}

// longFile is a file as tar -tv shows it.
func longFile(f davit.File) string {
	size := fmt.Sprint(f.Size)
	if f.Type == davit.CharDevice || f.Type == davit.BlockDevice {
		size = fmt.Sprintf("%d,%d", f.Major, f.Minor)
	}
	text := fmt.Sprintf("%s %-11s %10s %s %s", modeText(f), fmt.Sprintf("%d/%d", f.UID, f.GID), size,
		f.ModTime.UTC().Format("2006-01-02 15:04"), fileName(f))
	switch f.Type {
	case davit.Symlink:
		text += " -> " + f.Target
	case davit.Hardlink:
		text += " link to " + f.Target
	}
	return text
}

// modeText is a mode as ls -l shows it.
func modeText(f davit.File) string {
	letters := map[davit.FileType]string{
		davit.Regular: "-", davit.Hardlink: "h", davit.Directory: "d", davit.Symlink: "l",
		davit.CharDevice: "c", davit.BlockDevice: "b", davit.FIFO: "p",
	}
	mode := []byte(letters[f.Type] + "rwxrwxrwx")
	for i := range 9 {
		if f.Mode&(1<<(8-i)) == 0 {
			mode[1+i] = '-'
		}
	}
	for _, special := range []struct {
		bit    davit.FileMode
		at     int
		letter byte
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		switch {
		case f.Mode&special.bit == 0:
		case mode[special.at] == 'x':
			mode[special.at] = special.letter
		default:
			mode[special.at] = special.letter - 'a' + 'A'
		}
	}
	return string(mode)
}
