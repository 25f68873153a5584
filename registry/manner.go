package registry

import (
	"net/url"
	"strings"

	"github.com/davit-cli/davit/credential"
)

// manner is how a credential is shown.
type manner int

const (
	unknownManner manner = iota
	asBasic              // user and password to the registry
	atRealm              // user and password to the realm, or nothing, for a token
	asRefresh            // an OAuth2 refresh token to the realm, for a token
	asItIs               // a bearer token to the registry
)

func (m manner) String() string {
	return [...]string{"unknown", "Basic at the registry", "Basic at the realm", "refresh token", "bearer token"}[m]
}

// exchanges tells whether the realm gives a token for it.
func (m manner) exchanges() bool { return m == atRealm || m == asRefresh }

// mannersOf are the ways in which a credential may meet a challenge. There are
// several only for a token of unknown kind: most registries take theirs as the
// password of Basic, and whoever does not says so at once.
func mannersOf(c challenge, shown credential.Credential) []manner {
	switch {
	case c.scheme == "basic" && (shown.Username != "" || shown.Password != "" || shown.Token != ""):
		return []manner{asBasic}
	case c.scheme != "bearer":
		return nil
	case shown.Token != "":
		return []manner{atRealm, asRefresh, asItIs}
	case shown.RegistryToken != "":
		return []manner{asItIs}
	case shown.IdentityToken != "":
		return []manner{asRefresh}
	}
	return []manner{atRealm}
}

// basicOf are the name and the password for c on host.
func basicOf(host string, c challenge, shown credential.Credential) (user, password string) {
	switch {
	case shown.Token == "":
		return shown.Username, shown.Password
	case shown.Username != "":
		return shown.Username, shown.Token
	}
	return defaultUser(host, c), shown.Token
}

// defaultUser is the name that goes with a token where its owner gives none.
// Most registries take any; these do not.
func defaultUser(host string, c challenge) string {
	host = strings.ToLower(strings.TrimSuffix((&url.URL{Host: host}).Hostname(), "."))
	under := func(domain string) bool { return strings.HasSuffix(host, "."+domain) }
	switch {
	case isECR(host):
		return "AWS"
	case host == "gcr.io", under("gcr.io"), under("pkg.dev") && strings.HasSuffix(host, "-docker.pkg.dev"):
		return "oauth2accesstoken"
	case under("azurecr.io"):
		return "00000000-0000-0000-0000-000000000000"
	}
	if realm, err := url.Parse(c.params["realm"]); err == nil && c.params["service"] == "container_registry" &&
		strings.HasSuffix(realm.Path, "/jwt/auth") {
		return "gitlab-ci-token"
	}
	return "token"
}

// isECR tells whether host is ACCOUNT.dkr.ecr.REGION.amazonaws.com, or .cn.
func isECR(host string) bool {
	labels, ok := strings.CutSuffix(strings.TrimSuffix(host, ".cn"), ".amazonaws.com")
	parts := strings.Split(labels, ".")
	return ok && len(parts) == 4 && parts[0] != "" && parts[1] == "dkr" && (parts[2] == "ecr" || parts[2] == "ecr-fips") && parts[3] != ""
}
