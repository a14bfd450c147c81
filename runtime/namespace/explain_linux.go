//go:build amd64 || arm64

package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/launch"
)

// explain turns the failure of a step that only this driver makes into an error that
// wraps driver.ErrUnsupported and says what the machine lacks. Other errors pass.
func (d *Driver) explain(err error) error {
	step, ok := errors.AsType[*launch.StepError](err)
	if !ok {
		return err
	}
	return explain(err, step, d.user, sysctl)
}

func explain(err error, step *launch.StepError, user bool, sysctl func(string) string) error {
	switch step.What {
	case launch.CreateNamespaces, stepMapUser, stepPropagate, stepProc:
	default:
		return err
	}
	if errors.Is(step, syscall.EAGAIN) || errors.Is(step, syscall.ENOMEM) {
		return err // a shortage, which may pass
	}
	return unsupported(err, lacking(step, user, sysctl))
}

// unsupported adds to an error what is lacking and how to do without.
func unsupported(err error, lack string) error {
	if lack != "" {
		lack = ": " + lack
	}
	return fmt.Errorf(`%w%s (%w; isolation = "process" runs the service without namespaces)`, err, lack, driver.ErrUnsupported)
}

// lacking says in words what a failed step tells about the machine; "" when it tells nothing.
func lacking(step *launch.StepError, user bool, sysctl func(string) string) string {
	switch {
	case errors.Is(step, syscall.ENOSPC) || user && sysctl("user/max_user_namespaces") == "0":
		for _, kind := range []string{"user", "pid", "mnt", "ipc", "uts"} {
			name := "user/max_" + kind + "_namespaces"
			if v := sysctl(name); v == "0" {
				return "sysctl " + strings.ReplaceAll(name, "/", ".") + " = 0 forbids them"
			}
		}
		return "a limit of sysctl user.max_*_namespaces is used up"
	case errors.Is(step, syscall.EINVAL) && step.What == launch.CreateNamespaces:
		return "this kernel was built without some of the pid, mount, ipc, uts and user namespaces"
	case user && sysctl("kernel/unprivileged_userns_clone") == "0":
		return "ten does not run as root, and sysctl kernel.unprivileged_userns_clone = 0 denies user namespaces to others"
	case user && sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "ten does not run as root, and sysctl kernel.apparmor_restrict_unprivileged_userns = 1 " +
			"denies user namespaces to programs without an AppArmor profile that allows userns"
	case step.What == stepProc && errors.Is(step, syscall.EPERM) && user:
		return "parts of this machine's own /proc are covered by other mounts, as in most containers, " +
			"and then only root may mount another"
	case errors.Is(step, syscall.EPERM) && user:
		return "ten does not run as root (or lacks CAP_SYS_ADMIN), and something, perhaps a container's seccomp filter " +
			"or a chroot, denies user namespaces"
	case errors.Is(step, syscall.EPERM) || errors.Is(step, syscall.EACCES):
		return "something denies them even to root: perhaps a container's seccomp filter, SELinux or AppArmor"
	default:
		return ""
	}
}

// sysctl returns the value of a kernel setting, "" when this kernel does not have it.
func sysctl(name string) string {
	b, err := os.ReadFile(filepath.Join("/proc/sys", filepath.FromSlash(name)))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
