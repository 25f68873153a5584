package registry

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
)

// claims are what a token that is a JWT says that it is good for, as Docker's
// token server writes it.
// https://distribution.github.io/distribution/spec/auth/jwt/
type claims struct {
	Access *[]struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	} `json:"access"`
}

// readClaims reads a token. It does not verify it: that is the registry's. ok
// tells whether it is a JWT that says what it grants.
func readClaims(token string) (c claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return claims{}, false
	}
	return c, c.Access != nil
}

// grants tells whether the repository may be pulled from.
func (c claims) grants(repository string) bool {
	for _, a := range *c.Access {
		if a.Type == "repository" && a.Name == repository && (slices.Contains(a.Actions, "pull") || slices.Contains(a.Actions, "*")) {
			return true
		}
	}
	return false
}

// String is the scopes that are granted, or "nothing".
func (c claims) String() string {
	var scopes []string
	for _, a := range *c.Access {
		if len(a.Actions) > 0 {
			scopes = append(scopes, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
		}
	}
	if len(scopes) == 0 {
		return "nothing"
	}
	return strings.Join(scopes, " ")
}
