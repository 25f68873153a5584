package credential

import (
	"strings"
	"testing"
)

func TestGitLab(t *testing.T) {
	user := Credential{Username: "u", Password: canary, Source: "CI_REGISTRY_USER"}
	job := Credential{Username: "gitlab-ci-token", Password: canary, Source: "CI_JOB_TOKEN"}
	proxy := Credential{Username: "p", Password: canary, Source: "CI_DEPENDENCY_PROXY_USER"}
	pair := []string{"CI_REGISTRY_USER", "u", "CI_REGISTRY_PASSWORD", canary, "CI_JOB_TOKEN", "another"}
	token := []string{"CI_JOB_TOKEN", canary}
	proxyPair := []string{"CI_DEPENDENCY_PROXY_USER", "p", "CI_DEPENDENCY_PROXY_PASSWORD", canary}
	for _, test := range []struct {
		registry string
		env      []string
		asked    string
		want     Credential
		says     string // of the error
	}{
		{"registry.gitlab.com", pair, "registry.gitlab.com", user, ""},
		{"registry.gitlab.com", token, "registry.gitlab.com", job, ""},
		{"registry.gitlab.com", nil, "registry.gitlab.com", Credential{}, ""},
		{"", pair, "registry.gitlab.com", Credential{}, ""},
		{"", pair, "", Credential{}, ""},
		// However it is written, it is that host alone.
		{"https://registry.gitlab.com/group/project", pair, "registry.gitlab.com", user, ""},
		{"Registry.GitLab.com/", token, "registry.gitlab.com", job, ""},
		{"gitlab.local:5050", pair, "gitlab.local:5050", user, ""},
		{"http://gitlab.local:5050", token, "gitlab.local:5050", job, ""},
		{"gitlab.local:5050", pair, "gitlab.local", Credential{}, ""},
		{"gitlab.local:5050", token, "gitlab.local:5051", Credential{}, ""},
		{"gitlab.local", token, "gitlab.local:5050", Credential{}, ""},
		{"gitlab.com", token, "registry.gitlab.com", Credential{}, ""},
		{"gitlab.com", token, "evilgitlab.com", Credential{}, ""},
		{"registry.gitlab.com", pair, "registry.gitlab.com.evil.net", Credential{}, ""},
		{"registry.gitlab.com", token, "gitlab.com", Credential{}, ""},
		// Set to Docker Hub, it is for users of Docker Hub.
		{"https://index.docker.io/v1/", pair, "docker.io", user, ""},
		{"docker.io", token, "docker.io", Credential{}, ""},
		// Half of it is none, and the job's token is not another half.
		{"registry.gitlab.com", append([]string{"CI_REGISTRY_USER", "u"}, token...), "registry.gitlab.com", Credential{}, "CI_REGISTRY_PASSWORD is not"},
		{"registry.gitlab.com", []string{"CI_REGISTRY_PASSWORD", canary}, "registry.gitlab.com", Credential{}, "CI_REGISTRY_USER is not"},
		{"registry.gitlab.com", []string{"CI_REGISTRY_PASSWORD", canary}, "other.org", Credential{}, ""},
		// The dependency proxy is another host.
		{"registry.gitlab.com", append([]string{"CI_DEPENDENCY_PROXY_SERVER", "gitlab.com:443"}, proxyPair...), "gitlab.com:443", proxy, ""},
		{"registry.gitlab.com", append([]string{"CI_DEPENDENCY_PROXY_SERVER", "gitlab.com:443"}, proxyPair...), "gitlab.com:444", Credential{}, ""},
		{"registry.gitlab.com", append([]string{"CI_DEPENDENCY_PROXY_SERVER", "gitlab.com:443"}, token...), "gitlab.com:443", Credential{}, ""},
	} {
		c, err := GitLab(environ(append([]string{"CI_REGISTRY", test.registry}, test.env...)...))(t.Context(), test.asked, "app")
		if c != test.want || (err != nil) != (test.says != "") {
			t.Errorf("%q with %d variables, asked for %q: got %v, %v, want %v", test.registry, len(test.env)/2, test.asked, c, err, test.want)
		}
		if err != nil && (!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), canary)) {
			t.Errorf("%q does not say %q, or says too much", err, test.says)
		}
	}
}
