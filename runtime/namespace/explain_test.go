//go:build linux && (amd64 || arm64)

package namespace

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/launch"
)

func TestExplain(t *testing.T) {
	const advice = `isolation = "process" runs the service without namespaces`
	for _, c := range []struct {
		name, step string
		errno      syscall.Errno
		user       bool
		sysctls    map[string]string
		says       string // "" for an error that passes unchanged
	}{
		{"none allowed", launch.CreateNamespaces, syscall.ENOSPC, true, map[string]string{"user/max_user_namespaces": "0"}, "sysctl user.max_user_namespaces = 0 forbids them"},
		{"no pid allowed", launch.CreateNamespaces, syscall.ENOSPC, false, map[string]string{"user/max_pid_namespaces": "0"}, "sysctl user.max_pid_namespaces = 0 forbids them"},
		{"used up", launch.CreateNamespaces, syscall.ENOSPC, true, nil, "a limit of sysctl user.max_*_namespaces is used up"},
		{"Debian's switch", launch.CreateNamespaces, syscall.EPERM, true, map[string]string{"kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone = 0"},
		{"AppArmor", stepPropagate, syscall.EACCES, true, map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, "kernel.apparmor_restrict_unprivileged_userns = 1"},
		{"covered proc", stepProc, syscall.EPERM, true, nil, "covered by other mounts"},
		{"container", launch.CreateNamespaces, syscall.EPERM, true, nil, "does not run as root (or lacks CAP_SYS_ADMIN)"},
		{"root denied", launch.CreateNamespaces, syscall.EPERM, false, nil, "even to root"},
		{"kernel", launch.CreateNamespaces, syscall.EINVAL, false, nil, "this kernel was built without"},
		{"shortage", launch.CreateNamespaces, syscall.EAGAIN, true, nil, ""},
		{"program", "execute /bin/x", syscall.EPERM, true, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			step := &launch.StepError{What: c.step, Err: c.errno}
			err := fmt.Errorf("start a:b: %w", step)
			got := explain(err, step, c.user, func(name string) string { return c.sysctls[name] })
			if !errors.Is(got, c.errno) || errors.Is(got, driver.ErrUnsupported) != (c.says != "") {
				t.Errorf("kind of %v", got)
			}
			if c.says != "" && (!strings.Contains(got.Error(), c.says) || !strings.Contains(got.Error(), advice)) {
				t.Errorf("message %q", got)
			}
			t.Log(got)
		})
	}
}
