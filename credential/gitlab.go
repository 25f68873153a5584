package credential

import (
	"context"
	"errors"
	"os"
)

// GitLab provides what a GitLab CI job is given for its registry: for the host
// (and port) that CI_REGISTRY names, and no other, CI_REGISTRY_USER with
// CI_REGISTRY_PASSWORD, or CI_JOB_TOKEN where neither is set; for that of
// CI_DEPENDENCY_PROXY_SERVER, CI_DEPENDENCY_PROXY_USER with
// CI_DEPENDENCY_PROXY_PASSWORD. A user without a password, or the other way
// round, is an error: another credential in their place would be a surprise.
// The variables are read at each call, through getenv; nil is os.Getenv.
func GitLab(getenv func(string) string) Provider {
	if getenv == nil {
		getenv = os.Getenv
	}
	return Chain(
		gitlabUser(getenv, "CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
		gitlabToken(getenv),
		gitlabUser(getenv, "CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"),
	)
}

func gitlabUser(getenv func(string) string, registry, user, password string) Provider {
	return func(_ context.Context, asked, _ string) (Credential, error) {
		c := Credential{Username: getenv(user), Password: getenv(password), Source: user}
		switch {
		case !gitlabNames(getenv, registry, asked) || c.Anonymous():
			return Credential{}, nil
		case c.Username == "":
			return Credential{}, errors.New(password + " is set, but " + user + " is not")
		case c.Password == "":
			return Credential{}, errors.New(user + " is set, but " + password + " is not")
		}
		return c, nil
	}
}

func gitlabToken(getenv func(string) string) Provider {
	return func(_ context.Context, asked, _ string) (Credential, error) {
		token := getenv("CI_JOB_TOKEN")
		// Jobs set CI_REGISTRY to Docker Hub, too, where GitLab's token has no business.
		if token == "" || hostOf(asked) == hub || !gitlabNames(getenv, "CI_REGISTRY", asked) {
			return Credential{}, nil
		}
		return Credential{Username: "gitlab-ci-token", Password: token, Source: "CI_JOB_TOKEN"}, nil
	}
}

// gitlabNames tells whether a variable names the registry that is asked for.
func gitlabNames(getenv func(string) string, variable, asked string) bool {
	host := hostOf(getenv(variable))
	return host != "" && host == hostOf(asked)
}
