package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	orasregistry "oras.land/oras-go/v2/registry"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
)

// Checked is what a registry makes of a credential.
type Checked struct {
	// Asked tells whether it wanted one. Where not, it is open to everybody,
	// and says nothing of the credential.
	Asked bool
	// Credential is the one that it took, as it is to be stored: a Token has
	// become a password, an identity token or a registry token, with the user
	// name that it was taken with.
	Credential credential.Credential
}

// Check shows the session's credential for registry, named as references name
// it, to the registry (GET /v2/; OCI distribution-spec, "Determining Support").
// The registry takes it where it answers 200 to it, or to the token that its
// realm gave for it. A credential that is refused, stored or given, or none where
// one is wanted, is an error that names its source and wraps
// image.ErrUnauthorized. Errors wrap a sentinel of this package else.
func (s *Session) Check(ctx context.Context, registry string) (Checked, error) {
	step := "check the credential for " + oneline.Clean(registry, 200)
	if (orasregistry.Reference{Registry: registry}).ValidateRegistry() != nil {
		return Checked{}, fmt.Errorf("%s: not a registry", step)
	}
	c, err := s.client(registry, hosts.Host{}, "")
	if err != nil {
		return Checked{}, fmt.Errorf("%s: %w", step, err)
	}
	auth := &authorizer{client: c, registry: registry, strict: true}
	err = c.retry(ctx, func() error {
		resp, at, err := c.follow(ctx, step, http.MethodGet, c.registryURL("/v2/", auth), http.Header{}, true, nil)
		switch {
		case err != nil:
			return err
		case at.auth == nil:
			discard(resp)
			return c.failure(step, resp.Request, errors.New("the registry redirects there, and the credential is not for it"))
		case resp.StatusCode != http.StatusOK:
			return c.refusal(step, resp, at)
		}
		discard(resp)
		return nil
	})
	if err != nil {
		return Checked{}, err
	}
	taken := auth.taken()
	switch {
	case taken.value == "":
		return Checked{}, nil
	case taken.account.credential.Anonymous():
		return Checked{}, fmt.Errorf("%s from %s: %w: it wants a credential, and there is none", step, c.host, image.ErrUnauthorized)
	}
	return Checked{Asked: true, Credential: taken.toStore()}, nil
}

// toStore is the credential as it turned out to be.
func (s shown) toStore() credential.Credential {
	stored := s.account.credential
	if stored.Token == "" {
		return stored
	}
	token := stored.Token
	stored.Token = ""
	switch s.manner {
	case asRefresh:
		stored.IdentityToken = token
	case asItIs:
		stored.RegistryToken = token
	default:
		stored.Username, stored.Password = basicOf(s.account.client.host, s.challenge, s.account.credential)
	}
	return stored
}
