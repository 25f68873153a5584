//go:build unix

package credential

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// killWhole makes the end of cmd's context the end of what cmd has started,
// too, as far as that stays in its process group.
func killWhole(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
}
