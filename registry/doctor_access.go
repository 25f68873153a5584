package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/davit-cli/davit/image"
)

// ping asks for the API's root, without a credential, and reports the hops to
// the registry. It tells whether the registry can be reached. A pull asks for
// no root: where that alone fails, it is no fault.
func (e *examination) ping(ctx context.Context) bool {
	step, at := "get /v2/", e.repository.at("/v2/")
	req := (&http.Request{Method: http.MethodGet, URL: at.url, Host: at.url.Host, Header: http.Header{}}).WithContext(ctx)
	resp, err := e.client.sendToRegistry(step, req, e.client.transports.to)
	trips := e.watch.take()
	if ctx.Err() != nil {
		return false
	}
	if len(trips) == 0 { // not even a request could be made
		e.fault(Finding{Hop: HopAPI, Text: err.Error(), Err: err})
		e.stop(HopAPI)
		return false
	}
	t := trips[len(trips)-1]
	odd := err == nil && t.status != http.StatusOK && t.status != http.StatusUnauthorized
	switch {
	case odd:
		err = e.client.refusal(step, resp, at)
	case err == nil:
		discard(resp)
	}
	e.met(t)
	if e.connection(t, err) {
		e.stop(HopTLS)
		return false
	}
	f := Finding{Hop: HopAPI, Status: StatusOK, Text: statusText(t.status), Err: err, Duration: t.answered.Sub(t.started)}
	if t.status != 0 {
		f.Details = map[string]string{"status": fmt.Sprint(t.status)}
	}
	if err != nil {
		f.Status, f.Text = StatusWarning, refusalText(err)
	}
	if t.status == 0 { // whoever does not answer this does not answer at all
		e.fault(f)
		e.stop(HopAPI)
		return false
	}
	if odd {
		f.Text += ", which is not what registries answer"
	}
	e.tell(f)
	return true
}

// access reports how the registry was convinced by the trips of a request for
// path, from the challenge to the token. err is why there is no answer in the
// end, refusal makes the last answer an error. It tells whether there is
// anything left to ask.
func (e *examination) access(trips []*trip, path string, err error, refusal func() error) bool {
	var asked, realm []*trip // the registry, and whoever gives tokens
	for _, t := range trips {
		if t.url.Path == path && e.client.atRegistry(t.url) {
			asked = append(asked, t)
		} else {
			realm = append(realm, t)
		}
	}
	first := slices.IndexFunc(asked, func(t *trip) bool { return t.status == http.StatusUnauthorized })
	switch {
	case first >= 0:
	case err != nil: // which the manifest will tell more of
		e.skip("the registry does not answer", HopChallenge, HopCredential, HopRealm, HopToken)
		return true
	default:
		e.tell(Finding{Hop: HopChallenge, Status: StatusOK, Text: "none: the registry asks for no credential"})
		e.skip("not needed", HopCredential, HopRealm, HopToken)
		return true
	}
	last := asked[len(asked)-1]
	a := answered{challenges: parseChallenges(asked[first].header), realm: realm, err: err}
	for _, t := range asked {
		if t.authorization != "" {
			a.shown = t.authorization
		}
	}
	a.choose(e.client)
	denied := last.status == http.StatusUnauthorized || err != nil
	why := err
	if denied && why == nil {
		why = refusal()
	}
	switch {
	case !e.challenge(a, why), !e.credential(a, denied, why):
		return false
	case a.scheme == "bearer":
		return e.realm(a, err) && e.token(a, denied, why)
	}
	e.skip("Basic needs none", HopRealm, HopToken)
	return true
}

// answered is a challenge and what became of it.
type answered struct {
	challenges []challenge
	scheme     string    // of the challenge that was met; empty for none
	met        challenge // valid with a scheme
	realm      []*trip   // to whoever gives tokens
	shown      string    // to the registry, in the end; a secret
	err        error
}

// choose finds the challenge that the client took, by what it did.
func (a *answered) choose(c *client) {
	scheme, _, _ := strings.Cut(a.shown, " ")
	a.scheme = strings.ToLower(scheme)
	if len(a.realm) > 0 || errors.Is(a.err, ErrRealm) {
		a.scheme = "bearer"
	}
	found := false
	for _, ch := range a.challenges {
		if ch.scheme != a.scheme {
			continue
		}
		_, refused := c.realm(ch)
		if !found || ch.scheme == "bearer" && refused == nil {
			a.met, found = ch, true
		}
		if ch.scheme != "bearer" || refused == nil {
			return
		}
	}
}

// challenge reports how the registry wants to be convinced. It tells whether
// there is a way that we know.
func (e *examination) challenge(a answered, why error) bool {
	var offered []string
	known := false
	for _, c := range a.challenges {
		offered = append(offered, c.scheme)
		known = known || c.scheme == "basic" || c.scheme == "bearer"
	}
	f := Finding{Hop: HopChallenge, Status: StatusOK, Details: map[string]string{"offered": strings.Join(offered, ", ")}}
	if !known {
		f.Text, f.Err = "401, but none that davit can meet: "+strings.Join(offered, ", "), why
		if len(offered) == 0 {
			f.Text = "401, but none is offered"
		}
		e.fault(f)
		e.stop(HopChallenge)
		return false
	}
	f.Text = strings.Join(offered, " or ")
	if a.scheme != "" {
		f.Text = publicChallenge(a.met)
		f.Details["scheme"] = a.scheme
		if scope := a.met.params["scope"]; scope != "" {
			f.Details["scope"] = scope
		}
		if len(offered) > 1 {
			f.Text += "; offered: " + strings.Join(offered, ", ")
		}
	}
	e.tell(f)
	return true
}

// credential reports which one was used. It tells whether to go on.
func (e *examination) credential(a answered, denied bool, why error) bool {
	f := Finding{Hop: HopCredential, Status: StatusOK, Text: "none: anonymous"}
	found := e.found()
	if !found.credential.Anonymous() {
		f.Text, f.Details = "from "+found.credential.Source, map[string]string{"source": found.credential.Source}
	}
	_, refused, _ := e.repository.auth.used()
	switch {
	case found.err != nil:
		f.Text, f.Err = found.err.Error(), why
	case denied && a.scheme == "" && !errors.Is(why, image.ErrUnauthorized):
		f.Text, f.Err = why.Error(), why
	case denied && a.scheme == "" && found.credential.Anonymous():
		f.Text, f.Err = "none, and the registry gives nothing to anybody without", why
	case denied && a.scheme == "":
		f.Text, f.Err = f.Text+", which fits no challenge", why
	case denied && a.scheme == "basic":
		f.Text, f.Err = f.Text+", which the registry refuses", why
	case refused != "":
		f.Status, f.Text = StatusWarning, "from "+refused+", which is refused: a pull goes on as nobody"
	}
	if f.Err != nil {
		e.fault(f)
		e.stop(HopCredential)
		return false
	}
	e.tell(f)
	return true
}

// deniesToken tells whether a realm's answer means that it does not take what it
// was shown.
func deniesToken(t *trip) bool {
	return refuses(&Error{Method: t.method, Status: t.status})
}

// realm reports the hops to who gives tokens. It tells whether to go on.
func (e *examination) realm(a answered, err error) bool {
	if len(a.realm) == 0 {
		if err == nil {
			e.skip("the credential is a token already", HopRealm)
			return true
		}
		e.fault(Finding{Hop: HopRealm, Text: leg{err: err}.message(), Err: err})
		e.stop(HopRealm)
		return false
	}
	last := a.realm[len(a.realm)-1]
	for _, t := range a.realm {
		var failed error
		if t == last && t.err != nil {
			failed = err
		}
		if e.connection(t, failed) {
			e.skip(e.stopped, HopRealm)
			e.stop(HopRealm)
			return false
		}
		e.met(t)
	}
	where := publicURL(last.url)
	f := Finding{Hop: HopRealm, Host: last.url.Host, Status: StatusOK, Text: where, Duration: last.answered.Sub(last.started),
		Details: map[string]string{"realm": where}}
	if err != nil && last.status != http.StatusOK && !deniesToken(last) {
		f.Text, f.Err = err.Error(), err
		e.fault(f)
		e.stop(HopRealm)
		return false
	}
	e.tell(f)
	return true
}

// token reports what the token is good for. It tells whether to go on.
func (e *examination) token(a answered, denied bool, why error) bool {
	f := Finding{Hop: HopToken, Status: StatusOK}
	value, _ := strings.CutPrefix(a.shown, "Bearer ")
	claims, isJWT := readClaims(value)
	wanted := "repository:" + e.repository.name + ":pull"
	granted := isJWT && claims.grants(e.repository.name)
	if isJWT {
		f.Details = map[string]string{"granted": claims.String()}
	}
	switch {
	case a.err != nil: // there is none
		f.Text, f.Err = refusalText(a.err), a.err
	case granted:
		f.Text = "it grants " + claims.String()
	case denied && isJWT:
		f.Text, f.Err = "it grants "+claims.String()+", not "+wanted, why
	case denied:
		f.Text, f.Err = "the registry refuses it, so that it is not for "+wanted, why
	case isJWT:
		f.Text = "it tells of " + claims.String() + ", and the registry takes it"
	default:
		f.Text = "the registry takes it, but what it grants cannot be read"
	}
	if f.Err != nil {
		e.fault(f)
		e.stop(HopToken)
		return false
	}
	e.tell(f)
	return true
}

// refusalText is what a server's refusal says, without the step.
func refusalText(err error) string {
	var refused *Error
	if !errors.As(err, &refused) || refused.Status == 0 {
		return leg{err: err}.message()
	}
	text := statusText(refused.Status)
	if refused.Message != "" {
		text += ": " + refused.Message
	}
	switch {
	case refused.Credential != "":
		text += "; with the credential from " + refused.Credential
	case refused.Refused != "":
		text += "; the credential from " + refused.Refused + " was refused too"
	}
	return text
}
