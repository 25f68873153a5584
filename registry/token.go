package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/davit-cli/davit/image"
)

const (
	// tokenLife is how long a token holds whose server does not tell.
	// https://distribution.github.io/distribution/spec/auth/token/
	tokenLife = 60 * time.Second
	// maxTokenLife bounds what a server tells.
	maxTokenLife = 24 * time.Hour
	// maxTokenAnswer is the size of a token server's answer in bytes.
	maxTokenAnswer = 1 << 20
	clientID       = "davit"
)

// token is a bearer token; from renew on it is replaced before it is used.
type token struct {
	value          string
	renew, expires time.Time
	joint          bool // for several repositories
}

// newToken is a token that was asked for at a time, and has come now. Some time
// before its end, for the way and for clocks that differ, it is renewed; but it
// is used for half its life, or a slow realm would be asked without a pause.
func newToken(value string, life time.Duration, asked time.Time) token {
	renew := asked.Add(life - min(life/5, 10*time.Second))
	if least := time.Now().Add(life / 2); renew.Before(least) {
		renew = least
	}
	return token{value: value, renew: renew, expires: asked.Add(life)}
}

// exchange asks the realm that c names for a token: with a refresh token as
// OAuth2 has it, else as Docker's token server has it, with Basic where there
// is a name or a password. Service and scope are the challenge's; a is whom it
// is for.
// https://distribution.github.io/distribution/spec/auth/
func (acc *account) exchange(ctx context.Context, a *authorizer, c challenge, m manner) (token, error) {
	step := "get token for " + a.name()
	realm, err := acc.client.realm(c)
	if err != nil {
		return token{}, err
	}
	acc.client.opts.Events.Send(image.Event{Kind: image.EventStep, Text: fmt.Sprintf(
		"asking %s for a token (scope %q)", realm.Host, acc.client.public(c.params["scope"], 200))})
	asked := time.Now()
	var resp *http.Response
	if m == asRefresh {
		resp, err = acc.postToken(ctx, step, realm, c)
	} else {
		resp, err = acc.getToken(ctx, step, realm, c)
	}
	if err != nil {
		return token{}, err
	}
	if resp.StatusCode != http.StatusOK {
		_, refused, _ := a.used()
		return token{}, acc.client.tokenRefusal(step, resp, acc.credential.Source, refused, c.params["scope"])
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp.Body, maxTokenAnswer)
	if err != nil {
		return token{}, acc.client.failure(step, resp.Request, err)
	}
	value, life, err := parseToken(body)
	if err != nil {
		return token{}, acc.client.failure(step, resp.Request, err)
	}
	return newToken(value, life, asked), nil
}

func (acc *account) getToken(ctx context.Context, step string, realm *url.URL, c challenge) (*http.Response, error) {
	query := realm.Query()
	if service := c.params["service"]; service != "" {
		query.Set("service", service)
	}
	for _, scope := range strings.Fields(c.params["scope"]) {
		query.Add("scope", scope)
	}
	user, password := basicOf(acc.client.host, c, acc.credential)
	if user != "" {
		query.Set("account", user)
	}
	first := *realm
	first.RawQuery = query.Encode()
	u := &first
	authenticated := user != "" || password != ""
	for range maxRedirects + 1 {
		req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
		if authenticated {
			req.Header.Set("Authorization", acc.basic(c))
		}
		resp, err := acc.client.sendToRealm(step, req)
		if err != nil || !isRedirect(resp) {
			return resp, err
		}
		discard(resp)
		next, err := redirectTarget(resp)
		switch {
		case err != nil:
		case authenticated && !sameOrigin(u, next):
			err = fmt.Errorf("it redirects to %s, which the credential is not for", next.Host)
		default:
			err = acc.client.checkURL(next)
		}
		if err != nil {
			return nil, acc.client.failure(step, resp.Request, err)
		}
		u = next
	}
	return nil, &Error{Step: step, Method: http.MethodGet, Host: u.Host, Path: u.Path,
		Message: fmt.Sprintf("more than %d redirects", maxRedirects)}
}

func (acc *account) postToken(ctx context.Context, step string, realm *url.URL, c challenge) (*http.Response, error) {
	refresh := acc.credential.IdentityToken
	if refresh == "" {
		refresh = acc.credential.Token
	}
	form := url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh},
		"client_id":     {clientID},
	}
	for _, name := range []string{"service", "scope"} {
		if value := c.params[name]; value != "" {
			form.Set(name, value)
		}
	}
	text := form.Encode()
	req := (&http.Request{
		Method: http.MethodPost, URL: realm, Host: realm.Host,
		Header:        http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		Body:          io.NopCloser(strings.NewReader(text)),
		ContentLength: int64(len(text)),
	}).WithContext(ctx)
	resp, err := acc.client.sendToRealm(step, req)
	if err == nil && isRedirect(resp) {
		discard(resp)
		return nil, &Error{Step: step, Method: http.MethodPost, Host: realm.Host, Path: realm.Path, Status: resp.StatusCode,
			Message: "it redirects, which the token does not follow"}
	}
	return resp, err
}

// parseToken reads a token server's answer.
func parseToken(body []byte) (value string, life time.Duration, err error) {
	var answer struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	// No cause in the errors: it might quote the token.
	if json.Unmarshal(body, &answer) != nil {
		return "", 0, errors.New("its answer is not a token in JSON")
	}
	value = answer.Token
	if value == "" {
		value = answer.AccessToken
	}
	if value == "" {
		return "", 0, errors.New("its answer holds no token")
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", 0, errors.New("its token has characters that no header takes")
	}
	var seconds float64
	if json.Unmarshal(answer.ExpiresIn, &seconds) != nil || seconds <= 0 {
		return value, tokenLife, nil
	}
	return value, time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second)), nil
}

// refuses tells whether a token server's answer means that it does not take
// the credential. Some say so with 403, and OAuth2 with 400 (RFC 6749, section
// 5.2); others know nothing of OAuth2.
func refuses(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return true
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return e.Method == http.MethodPost
	}
	return false
}

// takesNot is refuses, for a credential that may be of another kind than the
// request had it.
func takesNot(err error) bool {
	var e *Error
	return refuses(err) ||
		errors.As(err, &e) && (e.Status == http.StatusBadRequest || e.Method == http.MethodPost && e.Status/100 == 3)
}
