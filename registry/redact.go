package registry

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/internal/oneline"
)

// maxPublic is how many bytes of a text from elsewhere are looked at.
const maxPublic = 16 << 10

// public makes text from elsewhere fit for people: without the secrets that we
// know, without control characters, and not long.
func (c *client) public(text string, limit int) string {
	return c.publicFrom(nil, text, limit)
}

// publicFrom is public for what was said in answer to a request for u, which
// may be signed: the parts of its query are secrets too. Nil: none are. A text
// of maxPublic bytes or more counts as one that was cut.
func (c *client) publicFrom(u *url.URL, text string, limit int) string {
	shown, signed, proxied := c.session.secrets.redactor(), queryOf(u), c.transports.proxied.redactor()
	cut := len(text) >= maxPublic
	// Cleaned first, so that no control character hides a secret, and shortened
	// last, so that none is cut in two. Where another did that, what may be the
	// beginning of a secret goes.
	text = oneline.Clean(text[:min(len(text), maxPublic)], maxPublic)
	if cut {
		text = text[:max(0, len(text)-max(shown.longest, signed.longest, proxied.longest))]
	}
	return oneline.Clean(signed.redact(proxied.redact(shown.redact(text))), limit)
}

// maxRecent is how many tokens are looked for.
const maxRecent = 64

// secrets are what a session has shown to servers, or got from them. The zero
// value works.
type secrets struct {
	mu     sync.Mutex
	known  []string  // of credentials, in all their forms
	recent []string  // tokens
	made   *redactor // of both; nil: to be made anew
}

// learn adds a credential's.
func (s *secrets) learn(c credential.Credential) {
	for _, secret := range []string{c.Password, c.IdentityToken, c.RegistryToken, c.Token} {
		if len(secret) >= 4 { // or messages would be mutilated by chance
			s.add(formsOf(secret))
		}
	}
	if c.Password != "" {
		s.learnBasic(c.Username, c.Password)
	}
}

// learnBasic adds the forms of a Basic Authorization.
func (s *secrets) learnBasic(user, password string) { s.add(base64Of(user + ":" + password)) }

func (s *secrets) add(forms []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, form := range forms {
		if !slices.Contains(s.known, form) {
			s.known = append(s.known, form)
			s.made = nil
		}
	}
}

// learnToken adds a token's.
func (s *secrets) learnToken(value string) {
	if len(value) < 8 { // shorter ones are in any text by chance
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.recent, value) {
		return
	}
	s.recent = append(s.recent, value)
	if len(s.recent) > maxRecent {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
	s.made = nil
}

// redactor finds the secrets in what a server says.
func (s *secrets) redactor() *redactor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made = newRedactor(slices.Concat(s.known, s.recent))
	}
	return s.made
}

// redactor takes secrets out of texts.
type redactor struct {
	replacer *strings.Replacer
	longest  int // secret, in bytes
}

func newRedactor(secrets []string) *redactor {
	// Texts are cleaned before, which changes the secrets in them as well.
	for _, secret := range secrets {
		if cleaned := oneline.Clean(secret, len(secret)); cleaned != secret && len(cleaned) >= 4 {
			secrets = append(secrets, cleaned)
		}
	}
	slices.SortFunc(secrets, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a) // the longest first: a secret may begin with another
		}
		return strings.Compare(a, b)
	})
	r := new(redactor)
	var pairs []string
	for _, secret := range slices.Compact(secrets) {
		r.longest = max(r.longest, len(secret))
		pairs = append(pairs, secret, "***")
	}
	r.replacer = strings.NewReplacer(pairs...)
	return r
}

// redact is text with *** for each secret. It goes over text once, so that a
// secret of asterisks does no harm.
func (r *redactor) redact(text string) string { return r.replacer.Replace(text) }

// queryOf finds the parts of a signed URL in what a store says of it.
func queryOf(u *url.URL) *redactor {
	if u == nil || u.RawQuery == "" {
		return newRedactor(nil)
	}
	secrets := formsOf(u.RawQuery)
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if _, raw, _ := strings.Cut(pair, "="); len(raw) >= 8 {
			secrets = append(secrets, formsOf(raw)...)
			if value, err := url.QueryUnescape(raw); err == nil && len(value) >= 8 {
				secrets = append(secrets, formsOf(value)...)
			}
		}
	}
	return newRedactor(secrets)
}

var escapedByte = regexp.MustCompile("%[0-9A-F]{2}")

// formsOf are the ways in which servers are likely to repeat a secret.
func formsOf(secret string) []string {
	query, path := url.QueryEscape(secret), url.PathEscape(secret)
	forms := []string{secret, query, path, strings.ReplaceAll(query, "+", "%20")}
	for _, form := range forms {
		forms = append(forms, escapedByte.ReplaceAllStringFunc(form, strings.ToLower))
	}
	escaped := html.EscapeString(secret)
	forms = append(forms, escaped,
		strings.NewReplacer("&#34;", "&quot;", "&#39;", "&apos;").Replace(escaped),
		strings.NewReplacer("&#34;", "&quot;", "&#39;", "&#x27;").Replace(escaped))
	if quoted, err := json.Marshal(secret); err == nil {
		inner := string(quoted[1 : len(quoted)-1])
		forms = append(forms, inner,
			strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(inner),
			strings.ReplaceAll(inner, "/", `\/`))
	}
	return append(forms, base64Of(secret)...)
}

func base64Of(secret string) []string {
	var forms []string
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		forms = append(forms, encoding.EncodeToString([]byte(secret)))
	}
	return forms
}
