package registry

import (
	"errors"
	"net/http"
	"net/url"
)

// A registry chooses the realm that gets the user's credential, and that may
// be another host, where policy allows it (policy.go): Docker Hub and GitLab
// need it.

// realm is the token realm that a Bearer challenge names, where policy allows it.
func (c *client) realm(ch challenge) (*url.URL, error) {
	step := "get token from the realm that " + c.host + " names"
	refuse := func(host string, err error) error {
		return &Error{Step: step, Host: host, Message: c.public(err.Error(), 200), causes: []error{ErrRealm}}
	}
	realm, err := url.Parse(ch.params["realm"])
	if err != nil || realm.Hostname() == "" {
		return nil, refuse("", errors.New("the challenge names no realm that is a URL"))
	}
	if realm.User != nil {
		return nil, refuse(realm.Host, errors.New("the realm's URL carries a user"))
	}
	realm.Fragment, realm.RawFragment = "", ""
	if err := c.checkURL(realm); err != nil {
		return nil, refuse(realm.Host, err)
	}
	return realm, nil
}

// sendToRealm makes one round trip to a token realm that policy allows.
func (c *client) sendToRealm(step string, req *http.Request) (*http.Response, error) {
	if c.atRegistry(req.URL) {
		return c.sendToRegistry(step, req, c.transports.to)
	}
	return c.sendGuarded(step, req, c.transports.toRealm(req.URL), ErrRealm)
}
