// Package credential finds the credential for a registry: given by flag,
// in the environment, or stored by docker login.
package credential

import "context"

// Credential is what a registry is shown. The zero value is anonymous.
type Credential struct {
	Username string
	Password string
	// IdentityToken is an OAuth2 refresh token, as docker login stores it for
	// some registries.
	IdentityToken string
	// RegistryToken is a bearer token for the registry itself.
	RegistryToken string
	// Source tells where the credential came from, for messages: "--username",
	// "DAVIT_USERNAME", "/root/.docker/config.json". Never a secret.
	Source string
}

// Anonymous tells whether there is nothing to show.
func (c Credential) Anonymous() bool {
	return c.Username == "" && c.Password == "" && c.IdentityToken == "" && c.RegistryToken == ""
}

// Provider finds the credential for a repository of a registry, named as
// references name it (docker.io, localhost:5000). Nothing known is the zero
// Credential and no error. An error means that a credential is configured but
// could not be had: a caller must not go on as somebody else.
type Provider func(ctx context.Context, registry, repository string) (Credential, error)
