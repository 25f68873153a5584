package credential

import (
	"context"
	"errors"
	"os"
)

// Given provides a credential that was given for this command, from source
// ("--username"). Where registry is not empty, it is for that registry alone;
// else it is for every registry that asks.
func Given(username, password, source, registry string) Provider {
	return func(_ context.Context, asked, _ string) (Credential, error) {
		if username == "" && password == "" || registry != "" && hostOf(registry) != hostOf(asked) {
			return Credential{}, nil
		}
		return Credential{Username: username, Password: password, Source: source}, nil
	}
}

// The variables that Environment reads.
const (
	UsernameVariable = "DAVIT_USERNAME"
	PasswordVariable = "DAVIT_PASSWORD"
	RegistryVariable = "DAVIT_REGISTRY"
)

// Environment provides what DAVIT_USERNAME and DAVIT_PASSWORD hold, for the
// registry DAVIT_REGISTRY alone where that is set. One of the two without the
// other is an error. The variables are read at each call, through getenv; nil
// is os.Getenv.
func Environment(getenv func(string) string) Provider {
	if getenv == nil {
		getenv = os.Getenv
	}
	return func(ctx context.Context, asked, repository string) (Credential, error) {
		username, password, registry := getenv(UsernameVariable), getenv(PasswordVariable), getenv(RegistryVariable)
		c, err := Given(username, password, UsernameVariable, registry)(ctx, asked, repository)
		switch {
		case err != nil || c.Anonymous():
			return Credential{}, err
		case username == "":
			return Credential{}, errors.New(PasswordVariable + " is set, but " + UsernameVariable + " is not")
		case password == "":
			return Credential{}, errors.New(UsernameVariable + " is set, but " + PasswordVariable + " is not")
		}
		return c, nil
	}
}
