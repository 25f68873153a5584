// Package credential finds the credential for a registry: given by flag, in
// the environment, or stored by a login, davit's own, Docker's or Podman's; and
// it stores one.
package credential

import (
	"context"
	"fmt"
	"io"
)

// Credential is what a registry is shown. The zero value is anonymous.
type Credential struct {
	Username string
	Password string
	// IdentityToken is an OAuth2 refresh token, as docker login stores it for
	// some registries.
	IdentityToken string
	// RegistryToken is a bearer token for the registry itself.
	RegistryToken string
	// Token is a token of a kind that its owner need not know: a password for
	// Username, a refresh token or a bearer token, whichever the registry
	// takes.
	Token string
	// Source tells where the credential came from, for messages: "--username",
	// "DAVIT_USERNAME", "/root/.docker/config.json". Never a secret.
	Source string
	// Stored says that the credential was found lying about and not given for
	// this command: where it turns out to be wrong, a public image may still be
	// had without it.
	Stored bool
}

// Anonymous tells whether there is nothing to show.
func (c Credential) Anonymous() bool {
	return c.Username == "" && c.Password == "" && c.IdentityToken == "" && c.RegistryToken == "" && c.Token == ""
}

// String tells the source and never a secret.
func (c Credential) String() string {
	if c.Anonymous() {
		return "no credential"
	}
	return "credential from " + c.Source
}

// Format prints String for every verb, so that a Credential may be printed, and
// so may what has one in an exported field or holds a pointer to one. In an
// unexported field fmt cannot ask it and prints all of it.
func (c Credential) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, c.String()) }

// MarshalText gives String, so that no encoder writes a secret either.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Provider finds the credential for a repository of a registry, named as
// references name it (docker.io, localhost:5000). Nothing known is the zero
// Credential and no error. An error means that a credential is configured but
// could not be had: a caller must not go on as somebody else.
type Provider func(ctx context.Context, registry, repository string) (Credential, error)

// Chain asks the providers in order. The first credential or error is the
// answer. Nil providers are passed over.
func Chain(providers ...Provider) Provider {
	return func(ctx context.Context, registry, repository string) (Credential, error) {
		for _, p := range providers {
			if p == nil {
				continue
			}
			c, err := p(ctx, registry, repository)
			if err != nil || !c.Anonymous() {
				return c, err
			}
		}
		return Credential{}, nil
	}
}
