package daemon

import "os"

// useProxies makes what was configured the proxies of this process, as dockerd
// does: http.ProxyFromEnvironment reads them at the first request.
func useProxies(r *Registries) error {
	for name, value := range map[string]string{"HTTP_PROXY": r.HTTPProxy, "HTTPS_PROXY": r.HTTPSProxy, "NO_PROXY": r.NoProxy} {
		if value == "" {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}
