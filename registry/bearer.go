package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Why there is no token to be had, although nothing is wrong.
var (
	// ErrNoChallenge: the registry asks for no token.
	ErrNoChallenge = errors.New("the registry wants no token")
	// ErrBasic: the registry asks for user and password with each request.
	ErrBasic = errors.New("the registry wants Basic, not a token")
)

// Token is a bearer token, good for pulling from one repository.
type Token struct {
	Value string
	// Expires is when it ends: 60 s after it was asked for where the realm does
	// not tell. Zero for a token that no realm gave, which tells nothing.
	Expires time.Time
	// Realm, Service and Scope are those of the registry's challenge.
	Realm, Service, Scope string
	// Source is where the credential came from that it was had with; empty
	// where it is anybody's.
	Source string
}

// String tells what the token is for and never its value.
func (t Token) String() string { return fmt.Sprintf("token for %s (scope %q)", t.Service, t.Scope) }

// GoString is String, so that %#v shows no secret either.
func (t Token) GoString() string { return t.String() }

// Token returns a token that the registry takes for pulling from the
// repository, got as every other request gets one. It asks for no content, so
// that nothing counts towards a quota. Errors wrap ErrNoChallenge, ErrBasic,
// image.ErrUnauthorized or a sentinel of this package.
func (r *Repository) Token(ctx context.Context) (Token, error) {
	step := "get token for " + r.name
	c := r.client
	err := c.retry(ctx, func() error {
		// There need not be such a tag.
		resp, at, err := c.follow(ctx, step, http.MethodHead, r.at("/v2/"+r.name+"/manifests/latest"), http.Header{"Accept": manifestTypes}, true, nil)
		if err != nil {
			return err
		}
		if at.auth != nil && resp.StatusCode == http.StatusUnauthorized && onlyBasic(parseChallenges(resp.Header)) {
			discard(resp)
			return fmt.Errorf("%s from %s: %w", step, c.host, ErrBasic)
		}
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden || mayPass(resp.StatusCode) {
			return c.refusal(step, resp, at)
		}
		discard(resp)
		return nil
	})
	if err != nil {
		return Token{}, err
	}
	taken := r.auth.taken()
	switch {
	case taken.value == "":
		return Token{}, fmt.Errorf("%s from %s: %w", step, c.host, ErrNoChallenge)
	case taken.manner == asBasic:
		return Token{}, fmt.Errorf("%s from %s: %w", step, c.host, ErrBasic)
	}
	params := taken.challenge.params
	return Token{
		Value: taken.bearer(), Expires: taken.token.expires,
		Realm: params["realm"], Service: params["service"], Scope: params["scope"],
		Source: taken.account.credential.Source,
	}, nil
}

// bearer is the bare token.
func (s shown) bearer() string { return s.value[len("Bearer "):] }

func onlyBasic(challenges []challenge) bool {
	basic := false
	for _, c := range challenges {
		basic = basic || c.scheme == "basic"
		if c.scheme == "bearer" {
			return false
		}
	}
	return basic
}
