package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	tokenPath = "/token"
	// Service is the service that Bearer challenges name.
	Service = "registrytest"

	catalogScope = "registry:catalog:*"
)

// AuthScheme is how a registry wants to be authorized.
type AuthScheme int

// The schemes.
const (
	Bearer AuthScheme = iota // a token from the realm (distribution spec, token authentication)
	Basic                    // user and password at the registry itself
)

// Auth asks for credentials.
type Auth struct {
	Scheme AuthScheme
	// User and Password are accepted by the realm, or with Basic by the
	// registry. Without a User, tokens are given to everybody who sends no
	// credential.
	User, Password string
	// Anonymous gives tokens also without a credential where there is a User.
	Anonymous bool
	// Access tells whether a user ("" for none) may pull from a repository;
	// nil: everybody may. A token for more is given, but without that scope;
	// with Basic the answer is 403. The repository "_catalog" stands for the
	// list of all.
	Access func(user, repository string) bool
	// Push tells whether a user may push to a repository; nil: who may pull may.
	Push func(user, repository string) bool

	// The rest is for Bearer.

	// Lifetime is how long a token is good, 0 for 300 s. See also RevokeTokens.
	Lifetime time.Duration
	// ExpiresIn is what the realm says of that in seconds: 0 for the truth,
	// -1 for nothing.
	ExpiresIn int
	// AccessTokenOnly sends access_token alone, not token beside it.
	AccessTokenOnly bool
	// IdentityToken is accepted as refresh_token by the realm's POST (OAuth2).
	IdentityToken string
	// OwnRealm puts the realm on a listener of its own instead of the registry's.
	OwnRealm bool
	// RealmURL is what the challenge names instead of the server's own realm.
	RealmURL string
	// Challenges are further values of WWW-Authenticate, sent before the true
	// one; OneHeader joins all with commas into one line.
	Challenges []string
	OneHeader  bool
}

// bearer tells whether there is a realm.
func (a *Auth) bearer() bool { return a != nil && a.Scheme == Bearer }

// catalogName stands for the list of repositories where one's name does else.
const catalogName = "_catalog"

type tokens struct {
	count uint64
	live  map[string]*token
}

type token struct {
	expires      time.Time
	repositories map[string]bool // that it lets pull from
	pushes       map[string]bool // and push to
}

// mayPush tells whether a user may push to a repository.
func (a *Auth) mayPush(user, repository string) bool {
	return (a.Access == nil || a.Access(user, repository)) && (a.Push == nil || a.Push(user, repository))
}

// isPush tells whether a request needs the right to push.
func isPush(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// authorized tells whether the request may go on; where not, it has answered.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request, o Options) bool {
	if o.Auth == nil {
		return true
	}
	if o.Auth.Scheme == Basic {
		return basicAuthorized(w, r, o.Auth)
	}
	repository := repositoryOf(r)
	from := r.URL.Query().Get("from")
	value, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	problem := ""
	if given {
		s.mu.Lock()
		t := s.tokens.live[value]
		s.mu.Unlock()
		switch {
		case t == nil || time.Now().After(t.expires):
			problem = "invalid_token"
		case repository != "" && !t.repositories[repository], isPush(r) && !t.pushes[repository],
			isPush(r) && from != "" && !t.repositories[from]:
			problem = "insufficient_scope"
		default:
			return true
		}
	}
	challenge := fmt.Sprintf("Bearer realm=%q,service=%q", s.realm(o.Auth), Service)
	switch {
	case Catalog(r):
		challenge += fmt.Sprintf(",scope=%q", catalogScope)
	case repository != "":
		scope := "repository:" + repository + ":pull"
		if isPush(r) {
			scope += ",push"
			if from != "" {
				scope += " repository:" + from + ":pull"
			}
		}
		challenge += fmt.Sprintf(",scope=%q", scope)
	}
	if problem != "" {
		challenge += fmt.Sprintf(",error=%q", problem)
	}
	refuse(w, o.Auth, challenge)
	return false
}

func basicAuthorized(w http.ResponseWriter, r *http.Request, a *Auth) bool {
	user, password, ok := r.BasicAuth()
	if !ok || user != a.User || password != a.Password {
		refuse(w, a, fmt.Sprintf("Basic realm=%q", Service))
		return false
	}
	if repository := repositoryOf(r); repository != "" && a.Access != nil && !a.Access(user, repository) || isPush(r) && !a.mayPush(user, repository) {
		writeError(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		return false
	}
	return true
}

// refuse answers 401 with the challenges.
func refuse(w http.ResponseWriter, a *Auth, challenge string) {
	challenges := append(append([]string{}, a.Challenges...), challenge)
	if a.OneHeader {
		challenges = []string{strings.Join(challenges, ", ")}
	}
	w.Header()["Www-Authenticate"] = challenges
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

func (s *Server) realm(a *Auth) string {
	switch {
	case a.RealmURL != "":
		return a.RealmURL
	case a.OwnRealm:
		return s.urlOf(Realm) + tokenPath
	default:
		return s.urlOf(Registry) + tokenPath
	}
}

// serveToken is the realm: GET with Basic (distribution spec, token
// authentication) and POST (OAuth2).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, o Options) {
	a := o.Auth
	if !a.bearer() || r.URL.Path != tokenPath {
		http.NotFound(w, r)
		return
	}
	if err := r.ParseForm(); err != nil {
		writeError(w, http.StatusBadRequest, "UNKNOWN", err.Error())
		return
	}
	var user string
	var ok bool
	switch r.Method {
	case http.MethodGet:
		user, ok = a.userOfGet(r)
	case http.MethodPost:
		user, ok = a.userOfPost(r)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "GET or POST")
		return
	}
	if !ok {
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	if r.Form.Get("service") != Service {
		writeError(w, http.StatusBadRequest, "UNKNOWN", "unknown service")
		return
	}
	s.giveToken(w, r, a, user)
}

func (a *Auth) userOfGet(r *http.Request) (user string, ok bool) {
	user, password, given := r.BasicAuth()
	if !given {
		return "", r.Header.Get("Authorization") == "" && (a.Anonymous || a.User == "")
	}
	return user, a.User != "" && user == a.User && password == a.Password
}

func (a *Auth) userOfPost(r *http.Request) (user string, ok bool) {
	switch r.PostForm.Get("grant_type") {
	case "refresh_token":
		return a.User, a.IdentityToken != "" && r.PostForm.Get("refresh_token") == a.IdentityToken
	case "password":
		user = r.PostForm.Get("username")
		return user, a.User != "" && user == a.User && r.PostForm.Get("password") == a.Password
	default:
		return "", false
	}
}

// giveToken answers with a token for those of the scopes that the user has.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request, a *Auth, user string) {
	t := &token{repositories: map[string]bool{}, pushes: map[string]bool{}}
	for _, scope := range strings.Fields(strings.Join(r.Form["scope"], " ")) {
		if scope == catalogScope && (a.Access == nil || a.Access(user, catalogName)) {
			t.repositories[catalogName] = true
		}
		rest, ok := strings.CutPrefix(scope, "repository:")
		i := strings.LastIndex(rest, ":")
		if !ok || i < 0 {
			continue
		}
		repository, actions := rest[:i], strings.Split(rest[i+1:], ",")
		for _, action := range actions {
			if (action == "pull" || action == "*") && (a.Access == nil || a.Access(user, repository)) {
				t.repositories[repository] = true
			}
			if (action == "push" || action == "*") && a.mayPush(user, repository) {
				t.pushes[repository] = true
			}
		}
	}
	lifetime := a.Lifetime
	if lifetime == 0 {
		lifetime = 300 * time.Second
	}
	t.expires = time.Now().Add(lifetime)

	s.mu.Lock()
	s.tokens.count++
	value := fmt.Sprintf("token-%016x", mix(^s.tokens.count))
	if s.tokens.live == nil {
		s.tokens.live = map[string]*token{}
	}
	s.tokens.live[value] = t
	s.mu.Unlock()
	s.records.update(func() { s.records.stats.Exchanges++ })

	answer := map[string]any{"access_token": value}
	if !a.AccessTokenOnly && r.Method == http.MethodGet {
		answer["token"] = value
	}
	switch {
	case a.ExpiresIn > 0:
		answer["expires_in"] = a.ExpiresIn
	case a.ExpiresIn == 0:
		answer["expires_in"] = int(lifetime / time.Second)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// RevokeTokens lets every token that was given out so far be refused.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.live = nil
}
