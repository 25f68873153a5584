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

	"github.com/davit-cli/davit/credential"
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
	value string
	renew time.Time
}

// exchange asks the realm that c names for a token: with an identity token as
// OAuth2 has it, else as Docker's token server has it, with Basic where there
// is a name or a password. Service and scope are the challenge's.
// https://distribution.github.io/distribution/spec/auth/
func (a *authorizer) exchange(ctx context.Context, c challenge, shown credential.Credential) (token, error) {
	step := "get token for " + a.repository
	realm, err := a.client.realm(c)
	if err != nil {
		return token{}, err
	}
	a.client.opts.Events.Send(image.Event{Kind: image.EventStep, Text: fmt.Sprintf(
		"asking %s for a token (scope %q)", realm.Host, a.client.public(c.params["scope"], 200))})
	asked := time.Now()
	var resp *http.Response
	if shown.IdentityToken != "" {
		resp, err = a.postToken(ctx, step, realm, c, shown)
	} else {
		resp, err = a.getToken(ctx, step, realm, c, shown)
	}
	if err != nil {
		return token{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		err := a.client.refusal(step, resp, purposeToken, shown.Source)
		var refused *Error
		if errors.As(err, &refused) && errors.Is(refused, image.ErrUnauthorized) {
			refused.Scope = a.client.public(c.params["scope"], 200)
		}
		return token{}, err
	}
	body, err := readAll(resp.Body, maxTokenAnswer)
	if err != nil {
		return token{}, a.client.failure(step, resp.Request, err)
	}
	value, life, err := parseToken(body)
	if err != nil {
		return token{}, a.client.failure(step, resp.Request, err)
	}
	// Some time before the end, for the way and for clocks that differ.
	return token{value, asked.Add(life - min(life/5, 10*time.Second))}, nil
}

func (a *authorizer) getToken(ctx context.Context, step string, realm *url.URL, c challenge, shown credential.Credential) (*http.Response, error) {
	u := *realm
	query := u.Query()
	if service := c.params["service"]; service != "" {
		query.Set("service", service)
	}
	for _, scope := range strings.Fields(c.params["scope"]) {
		query.Add("scope", scope)
	}
	if shown.Username != "" {
		query.Set("account", shown.Username)
	}
	u.RawQuery = query.Encode()
	authenticated := shown.Username != "" || shown.Password != ""
	for range maxRedirects + 1 {
		req := (&http.Request{Method: http.MethodGet, URL: &u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
		if authenticated {
			req.Header.Set("Authorization", "Basic "+basic(shown))
		}
		resp, err := a.client.sendToRealm(step, req)
		if err != nil || !isRedirect(resp) {
			return resp, err
		}
		discard(resp)
		next, err := redirectTarget(resp)
		switch {
		case err != nil:
		case authenticated && !sameOrigin(&u, next):
			err = fmt.Errorf("it redirects to %s, which the credential is not for", next.Host)
		default:
			err = a.client.checkURL(next)
		}
		if err != nil {
			return nil, a.client.failure(step, resp.Request, err)
		}
		u = *next
	}
	return nil, &Error{Step: step, Method: http.MethodGet, Host: u.Host, Path: u.Path,
		Message: fmt.Sprintf("more than %d redirects", maxRedirects)}
}

func (a *authorizer) postToken(ctx context.Context, step string, realm *url.URL, c challenge, shown credential.Credential) (*http.Response, error) {
	form := url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {shown.IdentityToken},
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
	resp, err := a.client.sendToRealm(step, req)
	if err == nil && isRedirect(resp) {
		discard(resp)
		return nil, a.client.failure(step, resp.Request, errors.New("it redirects, which the identity token does not follow"))
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
// the credential. Some say so with 403, and OAuth2 with 400 (RFC 6749, section 5.2).
func refuses(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden ||
		e.Status == http.StatusBadRequest && e.Method == http.MethodPost
}
