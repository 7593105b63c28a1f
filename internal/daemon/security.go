package daemon

import (
	"context"
	"log/slog"
	"os"

	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/linux/apparmor"
	"lade/internal/linux/seccomp/profile"
	"lade/internal/linux/selinux"
)

// securityDefaults reads what the configuration says for containers that do
// not say otherwise: a seccomp profile's file is read once, here. Errors:
// Invalid for a file that is none.
//
// Where the kernel enforces AppArmor it loads the engine's profile; without
// apparmor_parser(8), and without a profile of an earlier start, containers
// have none, which the log says.
func securityDefaults(ctx context.Context, c *Config, log *slog.Logger) (spec.SecurityDefaults, error) {
	d := spec.SecurityDefaults{NoNewPrivileges: c.NoNewPrivileges, SeccompName: c.SeccompProfile}
	if apparmor.Enabled() {
		var err error
		if d.AppArmor, err = appArmorDefault(ctx, c.AppArmorProfile, log); err != nil {
			return d, err
		}
	} else if c.AppArmorProfile != "" {
		log.Warn("apparmor-profile has no effect: the kernel does not enforce AppArmor")
	}
	if c.SELinux {
		d.SELinux = selinuxContexts(log)
	}
	if d.SeccompName == "" {
		d.SeccompName = "builtin"
	}
	var err error
	d.Seccomp, err = seccompDefault(c.SeccompProfile)
	return d, err
}

// seccompDefault reads the profile that is configured: its text, "unconfined",
// or "" for the built-in one. Errors: Invalid.
func seccompDefault(name string) (string, error) {
	switch name {
	case "", "builtin":
		return "", nil
	case "unconfined":
		return name, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", errdefs.Invalidf("opening seccomp profile (%s) failed: %w", name, err)
	}
	p, err := profile.Load(b, nil)
	if err != nil {
		return "", errdefs.Invalidf("seccomp profile %s: %w", name, err)
	}
	if p == nil { // it filters nothing
		return "unconfined", nil
	}
	return string(b), nil
}

// appArmorDefault returns the profile of containers that name none: the one that is
// configured, else the engine's own. Errors: Invalid for one that is not loaded.
func appArmorDefault(ctx context.Context, name string, log *slog.Logger) (string, error) {
	switch name {
	case "", apparmor.Default:
		return defaultProfile(ctx, log), nil
	case "unconfined": // said to the kernel, so that the supervisor's own profile is not inherited
		return name, nil
	}
	there, err := apparmor.Loaded(name)
	if err != nil {
		return "", err
	}
	if !there {
		return "", errdefs.Invalidf("invalid apparmor-profile: AppArmor profile %q is not loaded", name)
	}
	return name, nil
}

// defaultProfile loads the engine's AppArmor profile and returns its name, or
// nothing if there is none to use.
func defaultProfile(ctx context.Context, log *slog.Logger) string {
	err := apparmor.Load(ctx, apparmor.Current())
	if err == nil {
		return apparmor.Default
	}
	if there, _ := apparmor.Loaded(apparmor.Default); there {
		log.Warn("the AppArmor profile of an earlier start is used", "error", err)
		return apparmor.Default
	}
	log.Warn("containers run without an AppArmor profile", "error", err)
	return ""
}

// selinuxContexts returns the contexts that containers get, or nil if there are
// none to have, which the log says: dockerd goes on without them, too.
func selinuxContexts(log *slog.Logger) *selinux.Defaults {
	if !selinux.Enabled() {
		log.Warn("SELinux could not be enabled: the kernel has it not, or has no policy; containers get no labels")
		return nil
	}
	d, err := selinux.LoadDefaults()
	if err != nil {
		log.Warn("SELinux could not be enabled; containers get no labels", "error", err)
		return nil
	}
	return &d
}
