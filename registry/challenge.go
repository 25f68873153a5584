package registry

import (
	"maps"
	"net/http"
	"strings"
)

// challenge is one way in which a server offers to be convinced (RFC 9110,
// section 11.6.1).
type challenge struct {
	scheme string            // in lower case: bearer, basic
	params map[string]string // names in lower case
}

// key tells challenges apart that need tokens of their own.
func (c challenge) key() string {
	return strings.Join([]string{c.scheme, c.params["realm"], c.params["service"], c.params["scope"]}, "\n")
}

// withScope is c with another scope.
func (c challenge) withScope(scope string) challenge {
	c.params = maps.Clone(c.params)
	c.params["scope"] = scope
	return c
}

const (
	maxChallenges   = 16       // that are looked at
	maxChallengeLen = 16 << 10 // bytes of a header that is: tokens are kept by what they are for
)

// parseChallenges reads all challenges of all WWW-Authenticate headers, in
// order. It takes what registries write against the grammar (values without
// quotes) and leaves out what makes no sense.
func parseChallenges(header http.Header) []challenge {
	var found []challenge
	for _, value := range header.Values("WWW-Authenticate") {
		if len(value) > maxChallengeLen {
			continue
		}
		s := scanner{value}
		for len(found) < maxChallenges {
			c, ok := s.challenge()
			if !ok {
				break
			}
			found = append(found, c)
		}
	}
	return found
}

type scanner struct{ rest string }

func (s *scanner) skip(chars string) { s.rest = strings.TrimLeft(s.rest, chars) }

func (s *scanner) token() string {
	end := strings.IndexFunc(s.rest, func(r rune) bool { return !isTokenRune(r) })
	if end < 0 {
		end = len(s.rest)
	}
	token := s.rest[:end]
	s.rest = s.rest[end:]
	return token
}

func (s *scanner) challenge() (challenge, bool) {
	var scheme string
	for scheme == "" {
		s.skip(" \t,")
		if s.rest == "" {
			return challenge{}, false
		}
		if scheme = s.token(); scheme == "" {
			s.rest = s.rest[1:] // nothing that could start a challenge
		}
	}
	c := challenge{strings.ToLower(scheme), map[string]string{}}
	s.skip(" \t")
	if s.token68() {
		return c, true
	}
	for {
		s.skip(" \t,")
		before := s.rest
		name := s.token()
		s.skip(" \t")
		if name == "" || !strings.HasPrefix(s.rest, "=") {
			s.rest = before // the next challenge, or the end
			return c, true
		}
		s.rest = s.rest[1:]
		s.skip(" \t")
		value := s.value()
		if name = strings.ToLower(name); c.params[name] == "" {
			c.params[name] = value
		}
	}
}

// token68 passes over credentials in one piece, as Negotiate has them.
func (s *scanner) token68() bool {
	end := strings.IndexFunc(s.rest, func(r rune) bool { return !isTokenRune(r) && r != '/' })
	if end <= 0 {
		return false
	}
	rest := strings.TrimLeft(s.rest[end:], "=")
	if rest == s.rest[end:] || strings.Trim(rest, " \t") != "" && !strings.HasPrefix(strings.TrimLeft(rest, " \t"), ",") {
		return false
	}
	s.rest = rest
	return true
}

// value reads a parameter's value, quoted or not.
func (s *scanner) value() string {
	if !strings.HasPrefix(s.rest, `"`) {
		end := strings.IndexAny(s.rest, " \t,")
		if end < 0 {
			end = len(s.rest)
		}
		value := s.rest[:end]
		s.rest = s.rest[end:]
		return value
	}
	var value strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '"':
			s.rest = s.rest[i+1:]
			return value.String()
		case '\\':
			if i++; i == len(s.rest) {
				break
			}
			fallthrough
		default:
			value.WriteByte(s.rest[i])
		}
	}
	s.rest = ""
	return value.String()
}

func isTokenRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
