//go:build linux

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// completing has bash complete a line by davit's own script, as it does when
// Tab is pressed: it parts the words of the line at colons.
const completing = `
source <(davit completion bash)
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<<"${1//:/ : }"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
if [[ $1 == *: ]]; then COMP_WORDS+=(""); COMP_CWORD=$((COMP_CWORD + 1)); fi
__start_davit
printf '%s\n' "${COMPREPLY[@]}"
`

// TestCompletion completes tags from the registry and images from the disk in
// a real bash, which has nothing of the package bash-completion.
func TestCompletion(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	for _, tag := range []string{"1.0", "1.1", "2.0"} {
		r.push(t, "team/app", tag, tiny(t))
	}
	dir := t.TempDir()
	pull := davitCommand(t, "pull", r.host+"/team/app:1.0", "-o", "app.tar", "-q")
	pull.Dir = dir
	run(t, pull)
	for line, want := range map[string][]string{
		"davit tags " + r.host + "/team/app:":     {"1.0", "1.1", "2.0"},
		"davit inspect " + r.host + "/team/app:1": {"1.0", "1.1"},
		"davit cat ./a": {"./app.tar"},
		"davit insp":    {"inspect"},
	} {
		cmd := exec.Command("bash", "--norc", "-c", completing, "bash", line)
		cmd.Dir = dir
		cmd.Env = []string{"HOME=" + dir, "PATH=" + filepath.Dir(davit) + ":/usr/bin:/bin"}
		got, told, err := output(cmd)
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, told)
		}
		if diff := cmp.Diff(want, strings.Fields(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s\n%s", line, diff, told)
		}
	}
}
