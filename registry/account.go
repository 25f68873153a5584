package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/flight"
)

const (
	// maxJoined is for how many repositories one token is asked, at most.
	maxJoined = 32
	// maxTokens is about how many are kept: a registry may want one for another
	// scope each time.
	maxTokens = 1000
)

// account is a credential, or none, as one host knows it: all repositories
// there that the provider gave it for share its tokens.
type account struct {
	client     *client
	credential credential.Credential
	exchanges  flight.Group[exchanged]

	announced sync.Once

	mu     sync.Mutex
	proven manner           // that its Token turned out to be good for
	apart  map[string]bool  // realms that refuse joint requests, tokens' keys that these are no good for
	tokens map[string]token // by tokenKey
}

// exchanged is what an exchange gave, and for which tokens' keys. An error is
// for these too.
type exchanged struct {
	token token
	keys  []string
}

// account is the one for a credential.
func (c *client) account(shown credential.Credential) *account {
	c.mu.Lock()
	acc, known := c.accounts[shown]
	if !known {
		if c.accounts == nil {
			c.accounts = map[credential.Credential]*account{}
		}
		acc = &account{client: c, credential: shown, apart: map[string]bool{}, tokens: map[string]token{}}
		c.accounts[shown] = acc
	}
	c.mu.Unlock()
	if !known {
		c.session.secrets.learn(shown)
	}
	return acc
}

func tokenKey(m manner, c challenge) string { return m.String() + "\n" + c.key() }

func realmKey(c challenge) string { return c.params["realm"] + "\n" + c.params["service"] }

// cached is a token that still holds and was not rejected.
func (acc *account) cached(key, rejected string) (token, bool) {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	t, ok := acc.tokens[key]
	return t, ok && time.Now().Before(t.renew) && "Bearer "+t.value != rejected && !(t.joint && acc.apart[key])
}

// keepApart lets no joint request ask for a token, or for any of a realm's.
func (acc *account) keepApart(key string) {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	acc.apart[key] = true
}

func (acc *account) isApart(key string) bool {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	return acc.apart[key]
}

// firstManner is the one that worked for another repository.
func (acc *account) firstManner() manner {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	return acc.proven
}

func (acc *account) prove(m manner) {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	if acc.proven == unknownManner {
		acc.proven = m
	}
}

// token is one for a's challenge: a known one that was not rejected, or else
// that of an exchange, which asks for the other open repositories too. There is
// never more than one exchange at a time for the same challenge.
func (acc *account) token(ctx context.Context, a *authorizer, c challenge, m manner, rejected string) (token, error) {
	key := tokenKey(m, c)
	for {
		if t, ok := acc.cached(key, rejected); ok {
			return t, nil
		}
		peers := acc.peers(ctx, a, c, m, rejected)
		keys := []string{key}
		for _, p := range peers {
			keys = append(keys, p.key)
		}
		got, err := acc.exchanges.DoAll(ctx, keys, func(ctx context.Context, keys []string) (exchanged, error) {
			if t, ok := acc.cached(key, rejected); ok {
				return exchanged{t, []string{key}}, nil // another exchange has just ended
			}
			free := slices.DeleteFunc(peers, func(p peer) bool { return !slices.Contains(keys, p.key) })
			return acc.renew(ctx, a, c, m, free)
		})
		if slices.Contains(got.keys, key) || ctx.Err() != nil {
			return got.token, err
		}
		// The exchange was for others in the end.
	}
}

// peer is another repository that a joint request asks for.
type peer struct {
	auth      *authorizer
	challenge challenge // as the registry is expected to make it
	key       string
}

// peers are the repositories that lack a token as a does, and that the same
// realm gives it for with the same credential. A token for pushing has none: it
// is good for nothing that is only read.
func (acc *account) peers(ctx context.Context, a *authorizer, c challenge, m manner, rejected string) []peer {
	actions, ok := strings.CutPrefix(c.params["scope"], "repository:"+a.repository+":")
	if !ok || a.pushes || strings.ContainsAny(actions, ": ") || strings.Contains(actions, "push") || acc.isApart(realmKey(c)) || acc.isApart(tokenKey(m, c)) {
		return nil
	}
	var found []peer
	for _, other := range acc.client.others(a) {
		asked := c.withScope("repository:" + other.repository + ":" + actions)
		key := tokenKey(m, asked)
		if _, has := acc.cached(key, rejected); has || acc.isApart(key) || !other.expects(asked) {
			continue
		}
		if found = append(found, peer{other, asked, key}); len(found) == maxJoined-1 {
			break
		}
	}
	// Whose credential they are for may take a helper each to find out.
	same := make([]bool, len(found))
	var all sync.WaitGroup
	for i, p := range found {
		all.Go(func() {
			theirs, err := p.auth.find(ctx)
			same[i] = err == nil && theirs == acc // an error is theirs to meet
		})
	}
	all.Wait()
	var peers []peer
	for i, p := range found {
		if same[i] {
			peers = append(peers, p)
		}
	}
	return peers
}

// others are the open repositories beside a's, each once.
func (c *client) others(a *authorizer) []*authorizer {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]bool{a.repository: true}
	var others []*authorizer
	for _, other := range c.open {
		if !seen[other.repository] {
			seen[other.repository] = true
			others = append(others, other)
		}
	}
	return others
}

// renew gets a token for a and its peers, and keeps it. Where the realm refuses
// the joint request, it asks for a's scope alone, and does not join again.
func (acc *account) renew(ctx context.Context, a *authorizer, c challenge, m manner, peers []peer) (exchanged, error) {
	scopes := c.params["scope"]
	keys := []string{tokenKey(m, c)}
	for _, p := range peers {
		scopes += " " + p.challenge.params["scope"]
		keys = append(keys, p.key)
	}
	t, err := acc.exchange(ctx, a, c.withScope(scopes), m)
	if len(peers) > 0 && refusesJoint(err) {
		acc.keepApart(realmKey(c))
		peers, keys = nil, keys[:1]
		t, err = acc.exchange(ctx, a, c, m)
	}
	if err != nil {
		return exchanged{keys: keys}, err
	}
	t.joint = len(peers) > 0
	acc.client.session.secrets.learnToken(t.value)
	acc.mu.Lock()
	if len(acc.tokens) >= maxTokens {
		clear(acc.tokens)
	}
	for _, key := range keys {
		acc.tokens[key] = t
	}
	acc.mu.Unlock()
	for _, p := range peers {
		p.auth.expect(acc, p.challenge)
	}
	return exchanged{t, keys}, nil
}

// refusesJoint tells whether an error may be due to how much was asked for.
func refusesJoint(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
		http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// leaveOut warns, once a session, that the host does not take a stored
// credential.
func (acc *account) leaveOut(registry string) {
	acc.client.session.warn(fmt.Sprintf("%s refuses the credential from %s; going on without it", registry, acc.credential.Source))
}

// announce tells, once, which credential is used.
func (acc *account) announce(registry string) {
	acc.announced.Do(func() {
		text := registry + " wants a credential; there is none, so that the request stays anonymous"
		if !acc.credential.Anonymous() {
			text = registry + " wants a credential; using the one from " + acc.credential.Source
		}
		acc.client.opts.Events.Send(image.Event{Kind: image.EventStep, Text: text})
	})
}

// basic is the Authorization with name and password for c.
func (acc *account) basic(c challenge) string {
	user, password := basicOf(acc.client.host, c, acc.credential)
	acc.client.session.secrets.learnBasic(user, password)
	return "Basic " + basic(user, password)
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}
