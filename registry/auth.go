package registry

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/internal/flight"
)

// authorizer answers a registry's challenges for one repository. What it has
// found out serves all requests.
type authorizer struct {
	client     *client
	registry   string      // as references name it
	repository string      // empty: the registry itself
	strict     bool        // a stored credential that is refused is an error, as a given one is
	pushes     bool        // its tokens are to be good for pushing, too
	from       string      // and for pulling from this other repository; empty: from none
	like       *authorizer // whose credential it has; nil: that which it looks for

	lookups flight.Group[*account]

	mu      sync.Mutex
	found   *account        // nil: not looked for yet
	account *account        // nil: not chosen yet
	refused string          // source of a stored credential that was refused
	met     *challenge      // answered last, or expected, and so answered in advance
	last    shown           // with the registry's last answer that was no refusal
	worked  manner          // that a Token turned out to be good for, here
	failed  map[manner]bool // that it is not
	joins   bool            // a joint token has been good here
}

// shown is an Authorization, and how it came about. The zero value is none.
type shown struct {
	value     string // of the header; a secret
	account   *account
	challenge challenge
	manner    manner
	token     token // where the manner exchanges
	answers   bool  // a challenge to this very request, and was not shown in advance
	late      int   // how many new tokens before it had ended on their way
}

// maxLate is how many new tokens may end on their way, one after another.
const maxLate = 5

// name is what messages call it.
func (a *authorizer) name() string {
	if a.repository == "" {
		return a.registry
	}
	return a.repository
}

// inAdvance is what to show before any challenge: the answer to the one that
// was met last, renewed where it is about to expire. It is none before the
// first.
func (a *authorizer) inAdvance(ctx context.Context) (shown, error) {
	a.mu.Lock()
	met := a.met
	a.mu.Unlock()
	if met == nil {
		return shown{}, nil
	}
	found, err := a.choose(ctx, []challenge{*met}, "")
	if found == nil || err != nil {
		return shown{}, err
	}
	return *found, nil
}

// answer is what to show instead of what was, after resp; nil where resp stands,
// an answer or a refusal of all that there is to show. Shown to none is none.
func (a *authorizer) answer(ctx context.Context, resp *http.Response, was shown) (*shown, error) {
	if !a.rejects(resp, was) {
		a.note(resp, was)
		return nil, nil
	}
	gaveUp, late := false, was.late
	switch {
	case was.value == "":
	case was.token.joint && (was.answers || !a.hasWorked(was)):
		was.account.keepApart(tokenKey(was.manner, was.challenge))
	case was.manner.exchanges() && !was.answers:
		// It may have ended before its time.
	case was.manner.exchanges() && late < maxLate && !time.Now().Before(was.token.expires):
		late++ // it was new
	case was.account.credential.Token != "" && !a.hasWorked(was):
		a.fail(was.manner)
	case was.manner.exchanges() || !a.mayLeaveOut(was.account):
		return nil, nil
	default:
		a.leaveOut(was.account)
		gaveUp = true
	}
	challenges := parseChallenges(resp.Header)
	if len(challenges) == 0 && was.value != "" {
		challenges = []challenge{was.challenge}
	}
	for i, c := range challenges {
		challenges[i] = a.widen(c)
	}
	next, err := a.choose(ctx, challenges, was.value)
	switch {
	case err != nil:
		return nil, err
	case next != nil:
		next.answers, next.late = true, late
		a.mu.Lock()
		a.met = &next.challenge
		a.mu.Unlock()
	case gaveUp:
		next = &shown{}
	}
	return next, nil
}

// rejects tells whether resp is a refusal that something else to show may turn.
func (a *authorizer) rejects(resp *http.Response, was shown) bool {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return true
	case http.StatusForbidden:
		// Some say so of a token that lacks the scope.
		return was.value != "" && (was.token.joint || was.account.credential.Token != "") && !a.hasWorked(was)
	}
	return false
}

// note remembers what the registry took.
func (a *authorizer) note(resp *http.Response, was shown) {
	if was.value == "" || resp.StatusCode == http.StatusForbidden {
		return
	}
	good := resp.StatusCode < http.StatusBadRequest
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.account != was.account {
		return
	}
	a.last = was
	a.joins = a.joins || good && was.token.joint
	if good && was.account.credential.Token != "" {
		a.worked = was.manner
		was.account.prove(was.manner)
	}
}

// hasWorked tells whether something of the kind has been good here before.
func (a *authorizer) hasWorked(was shown) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was.token.joint && a.joins {
		return true
	}
	return a.worked != unknownManner && a.worked == was.manner
}

// choose is what the first challenge that can be met leads to: Bearer where the
// realm is one that we may ask, Basic where there is a name or a password. It
// is nil where there is nothing but what was rejected before. A Token is shown
// in one manner after the other, and a stored credential that the realm refuses
// is left out: the image may be public.
func (a *authorizer) choose(ctx context.Context, challenges []challenge, rejected string) (*shown, error) {
	if len(challenges) == 0 {
		return nil, nil
	}
	acc, err := a.find(ctx)
	if err != nil {
		return nil, err
	}
	var problem error
	tried := false
	for _, c := range challenges {
		for _, m := range a.manners(acc, c) {
			if m.exchanges() {
				if _, err := a.client.realm(c); err != nil {
					if problem == nil {
						problem = err
					}
					continue
				}
			}
			tried = true
			found, err := a.meet(ctx, acc, c, m, rejected)
			switch {
			case err == nil:
				return found, nil
			case acc.credential.Token != "" && takesNot(err):
				a.fail(m)
				problem = err
			case refuses(err) && a.mayLeaveOut(acc):
				a.leaveOut(acc)
				return a.choose(ctx, challenges, rejected)
			default:
				return nil, err
			}
		}
	}
	if acc.credential.Token != "" && (tried || a.hasFailed()) && a.mayLeaveOut(acc) {
		a.leaveOut(acc)
		return a.choose(ctx, challenges, rejected)
	}
	return nil, problem
}

// manners are those that may lead in here, the likeliest first.
func (a *authorizer) manners(acc *account, c challenge) []manner {
	all := mannersOf(c, acc.credential)
	if acc.credential.Token == "" {
		return all
	}
	first := acc.firstManner()
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(all, a.worked) {
		all = []manner{a.worked}
	} else if i := slices.Index(all, first); i > 0 {
		all = slices.Insert(slices.Delete(all, i, i+1), 0, first)
	}
	return slices.DeleteFunc(all, func(m manner) bool { return a.failed[m] })
}

// meet is what to show for c in one manner; nil where it is the rejected one.
func (a *authorizer) meet(ctx context.Context, acc *account, c challenge, m manner, rejected string) (*shown, error) {
	found := shown{account: acc, challenge: c, manner: m}
	switch m {
	case asBasic:
		found.value = acc.basic(c)
	case asItIs:
		found.value = "Bearer " + acc.credential.RegistryToken + acc.credential.Token
	default:
		var err error
		if found.token, err = acc.token(ctx, a, c, m, rejected); err != nil {
			return nil, err
		}
		found.value = "Bearer " + found.token.value
	}
	if found.value == rejected {
		return nil, nil
	}
	return &found, nil
}

// find is the credential to show.
func (a *authorizer) find(ctx context.Context) (*account, error) {
	a.mu.Lock()
	acc := a.account
	a.mu.Unlock()
	if acc != nil {
		return acc, nil
	}
	looking := a
	if a.like != nil {
		looking = a.like
	}
	acc, err := looking.lookUp(ctx)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.account == nil {
		a.account = acc
	}
	return a.account, nil
}

// lookUp looks for the credential, the first time that one is wanted.
func (a *authorizer) lookUp(ctx context.Context) (*account, error) {
	known := func() *account {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.found
	}
	if acc := known(); acc != nil {
		return acc, nil
	}
	return a.lookups.Do(ctx, "", func(ctx context.Context) (*account, error) {
		if acc := known(); acc != nil {
			return acc, nil
		}
		var found credential.Credential
		if a.client.opts.Credentials != nil {
			var err error
			if found, err = a.client.opts.Credentials(ctx, a.registry, a.repository); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrCredential, err)
			}
		}
		acc := a.client.account(found)
		acc.announce(a.registry)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.found = acc
		return acc, nil
	})
}

// mayLeaveOut tells whether the image may be asked for without a credential.
func (a *authorizer) mayLeaveOut(acc *account) bool {
	return !a.strict && acc.credential.Stored && !acc.credential.Anonymous()
}

// leaveOut goes on without the credential.
func (a *authorizer) leaveOut(acc *account) {
	acc.leaveOut(a.registry)
	nobody := a.client.account(credential.Credential{})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.account == acc {
		a.account, a.refused, a.met, a.joins = nobody, acc.credential.Source, nil, false
	}
}

// expects tells whether the registry is likely to make this challenge.
func (a *authorizer) expects(c challenge) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.met == nil || a.met.key() == c.key()
}

// expect answers a challenge before the registry makes it.
func (a *authorizer) expect(acc *account, c challenge) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.met == nil && a.account == acc {
		a.met = &c
	}
}

func (a *authorizer) fail(m manner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil {
		a.failed = map[manner]bool{}
	}
	a.failed[m] = true
}

func (a *authorizer) hasFailed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.failed) > 0
}

// taken is what the registry took last.
func (a *authorizer) taken() shown {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// used tells which credential requests carry, for messages.
func (a *authorizer) used() (source, refused, scope string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.account != nil && !a.account.credential.Anonymous() {
		source = a.account.credential.Source
	}
	if a.met != nil {
		scope = a.met.params["scope"]
	}
	return source, a.refused, scope
}
