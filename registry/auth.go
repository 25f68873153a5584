package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
)

// authorizer answers a registry's challenges for one repository. What it has
// found out, the credential and the tokens, serves all requests.
type authorizer struct {
	client     *client
	registry   string // as references name it
	repository string

	lookups   flights[credential.Credential]
	exchanges flights[token]

	mu         sync.Mutex
	credential *credential.Credential // nil: not looked for yet
	refused    string                 // source of a stored credential that the realm refused
	met        *challenge             // answered last, and so shown in advance
	tokens     map[string]token       // by the challenge's key
	secrets    []string               // of the credential, in all their forms
	recent     []string               // tokens
	redactor   *redactor              // of both; nil: to be made anew
}

// authorization is what to show in advance: the answer to the challenge that
// was met last, renewed where it is about to expire. It is empty before the
// first challenge.
func (a *authorizer) authorization(ctx context.Context) (string, error) {
	a.mu.Lock()
	met := a.met
	a.mu.Unlock()
	if met == nil {
		return "", nil
	}
	return a.meet(ctx, *met, "")
}

// answer meets the first challenge that can be met: Bearer where the realm is
// one that we may ask, Basic where there is a name or a password. It is empty
// where there is nothing to show but what was rejected before.
func (a *authorizer) answer(ctx context.Context, challenges []challenge, rejected string) (string, error) {
	if len(challenges) == 0 {
		return "", nil
	}
	shown, err := a.find(ctx)
	if err != nil {
		return "", err
	}
	var refusal error
	for _, c := range challenges {
		switch c.scheme {
		case "basic":
			if shown.Username == "" && shown.Password == "" {
				continue
			}
		case "bearer":
			if shown.RegistryToken != "" {
				break
			}
			if _, err := a.client.realm(c); err != nil {
				if refusal == nil {
					refusal = err
				}
				continue
			}
		default:
			continue
		}
		answer, err := a.meet(ctx, c, rejected)
		if err != nil {
			return "", err
		}
		a.mu.Lock()
		a.met = &c
		a.mu.Unlock()
		return answer, nil
	}
	return "", refusal
}

// meet is the Authorization for c, or empty where it is the rejected one.
func (a *authorizer) meet(ctx context.Context, c challenge, rejected string) (string, error) {
	shown, err := a.find(ctx)
	if err != nil {
		return "", err
	}
	var answer string
	switch {
	case c.scheme == "basic":
		answer = "Basic " + basic(shown)
	case shown.RegistryToken != "":
		answer = "Bearer " + shown.RegistryToken
	default:
		t, ok := a.cached(c, rejected)
		if !ok {
			t, err = a.exchanges.do(ctx, c.key(), func(ctx context.Context) (token, error) {
				if t, ok := a.cached(c, rejected); ok {
					return t, nil // another exchange has just ended
				}
				shown, err := a.find(ctx) // the realm may have refused it meanwhile
				if err != nil {
					return token{}, err
				}
				return a.renew(ctx, c, shown)
			})
			if err != nil {
				return "", err
			}
		}
		answer = "Bearer " + t.value
	}
	if answer == rejected {
		return "", nil
	}
	return answer, nil
}

// cached is a token for c that still holds and was not rejected.
func (a *authorizer) cached(c challenge, rejected string) (token, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.tokens[c.key()]
	return t, ok && time.Now().Before(t.renew) && "Bearer "+t.value != rejected
}

// renew gets a token and keeps it. Where the realm refuses a stored
// credential, it warns, forgets the credential and asks once more without: the
// image may be public.
func (a *authorizer) renew(ctx context.Context, c challenge, shown credential.Credential) (token, error) {
	t, err := a.exchange(ctx, c, shown)
	if err != nil && shown.Stored && !shown.Anonymous() && refuses(err) {
		a.client.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(
			"%s refuses the credential from %s; going on without it", a.registry, shown.Source)})
		a.mu.Lock()
		a.credential, a.refused = &credential.Credential{}, shown.Source
		a.mu.Unlock()
		t, err = a.exchange(ctx, c, credential.Credential{})
	}
	if err != nil {
		return token{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens == nil {
		a.tokens = map[string]token{}
	}
	a.tokens[c.key()] = t
	if len(t.value) >= 8 && !slices.Contains(a.recent, t.value) { // shorter ones are in any text by chance
		a.recent = append(a.recent, t.value)
		if len(a.recent) > 16 {
			a.recent = slices.Delete(a.recent, 0, 1)
		}
		a.redactor = nil
	}
	return t, nil
}

// find looks for the credential, the first time that one is wanted.
func (a *authorizer) find(ctx context.Context) (credential.Credential, error) {
	known := func() *credential.Credential {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.credential
	}
	if c := known(); c != nil {
		return *c, nil
	}
	return a.lookups.do(ctx, "", func(ctx context.Context) (credential.Credential, error) {
		if c := known(); c != nil {
			return *c, nil
		}
		var found credential.Credential
		if a.client.opts.Credentials != nil {
			var err error
			if found, err = a.client.opts.Credentials(ctx, a.registry, a.repository); err != nil {
				return found, fmt.Errorf("%w: %w", ErrCredential, err)
			}
		}
		text := a.registry + " wants a credential; there is none, so that the request stays anonymous"
		if !found.Anonymous() {
			text = a.registry + " wants a credential; using the one from " + found.Source
		}
		a.client.opts.Events.Send(image.Event{Kind: image.EventStep, Text: text})
		a.mu.Lock()
		defer a.mu.Unlock()
		a.credential = &found
		for _, secret := range []string{found.Password, found.IdentityToken, found.RegistryToken} {
			if len(secret) >= 4 { // or messages would be mutilated by chance
				a.secrets = append(a.secrets, formsOf(secret)...)
			}
		}
		if found.Password != "" {
			a.secrets = append(a.secrets, base64Of(found.Username+":"+found.Password)...)
		}
		a.redactor = nil
		return found, nil
	})
}

// used tells which credential requests carry, for messages.
func (a *authorizer) used() (source, refused, scope string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.credential != nil && !a.credential.Anonymous() {
		source = a.credential.Source
	}
	if a.met != nil {
		scope = a.met.params["scope"]
	}
	return source, a.refused, scope
}

// shown finds the secrets that we have shown in what a server says.
func (a *authorizer) shown() *redactor {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.redactor == nil {
		a.redactor = newRedactor(slices.Concat(a.secrets, a.recent))
	}
	return a.redactor
}

func basic(c credential.Credential) string {
	return base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
}
