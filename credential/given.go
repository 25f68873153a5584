package credential

import (
	"context"
	"errors"
	"os"
	"slices"
)

// Given provides a credential that was given for this command, from source
// ("--username"). Where registry is not empty, it is for that registry alone;
// else it is for every registry that asks.
func Given(username, password, source, registry string) Provider {
	return given(Credential{Username: username, Password: password, Source: source}, registry)
}

// GivenToken is Given for a token of a kind that nobody need know
// (Credential.Token). The user name may be empty. No token is no credential.
func GivenToken(username, token, source, registry string) Provider {
	if token == "" {
		username = ""
	}
	return given(Credential{Username: username, Token: token, Source: source}, registry)
}

func given(c Credential, registry string) Provider {
	return func(_ context.Context, asked, _ string) (Credential, error) {
		if c.Anonymous() || registry != "" && hostOf(registry) != hostOf(asked) {
			return Credential{}, nil
		}
		return c, nil
	}
}

// The variables that Environment reads.
const (
	UsernameVariable = "DAVIT_USERNAME"
	PasswordVariable = "DAVIT_PASSWORD"
	TokenVariable    = "DAVIT_TOKEN"
	RegistryVariable = "DAVIT_REGISTRY"
)

// Environment provides what DAVIT_USERNAME and DAVIT_PASSWORD hold, or
// DAVIT_TOKEN, with DAVIT_USERNAME where the kind of token has a user name: for
// the registry DAVIT_REGISTRY alone where that is set, else for registries alone,
// or for whichever asks, mirrors as well, where none are given. A name and a
// password without each other, and a password beside a token, are errors. The
// variables are read at each call, through getenv; nil is os.Getenv.
func Environment(getenv func(string) string, registries ...string) Provider {
	if getenv == nil {
		getenv = os.Getenv
	}
	return func(ctx context.Context, asked, repository string) (Credential, error) {
		isAsked := func(registry string) bool { return hostOf(registry) == hostOf(asked) }
		if getenv(RegistryVariable) == "" && len(registries) > 0 && !slices.ContainsFunc(registries, isAsked) {
			return Credential{}, nil
		}
		username, password, token := getenv(UsernameVariable), getenv(PasswordVariable), getenv(TokenVariable)
		all := Credential{Username: username, Password: password, Token: token}
		c, err := given(all, getenv(RegistryVariable))(ctx, asked, repository)
		switch {
		case err != nil || c.Anonymous():
			return Credential{}, err
		case token != "" && password != "":
			return Credential{}, errors.New(TokenVariable + " and " + PasswordVariable + " are both set: unset one of them")
		case token != "":
			c.Source = TokenVariable
		case username == "":
			return Credential{}, errors.New(PasswordVariable + " is set, but " + UsernameVariable + " is not")
		case password == "":
			return Credential{}, errors.New(UsernameVariable + " is set, but neither " + PasswordVariable + " nor " + TokenVariable + " is")
		default:
			c.Source = UsernameVariable
		}
		return c, nil
	}
}
