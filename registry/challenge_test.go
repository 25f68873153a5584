package registry

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseChallenges(t *testing.T) {
	type params = map[string]string
	for _, test := range []struct {
		name    string
		headers []string
		want    []challenge
	}{
		{"none", nil, nil},
		{"Docker Hub", []string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"`},
			[]challenge{{"bearer", params{"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:library/alpine:pull"}}}},
		{"a comma in quotes", []string{`Bearer realm="https://a/t",scope="repository:x:pull,push"`},
			[]challenge{{"bearer", params{"realm": "https://a/t", "scope": "repository:x:pull,push"}}}},
		{"several headers", []string{`Negotiate`, `basic REALM="x"`},
			[]challenge{{"negotiate", params{}}, {"basic", params{"realm": "x"}}}},
		{"several in one", []string{`Negotiate YII=, NTLM, Basic realm="x", Bearer realm="https://a/t" , service="s"`},
			[]challenge{{"negotiate", params{}}, {"ntlm", params{}}, {"basic", params{"realm": "x"}}, {"bearer", params{"realm": "https://a/t", "service": "s"}}}},
		{"no quotes", []string{`Bearer realm=https://a/t?x=y,service=s`},
			[]challenge{{"bearer", params{"realm": "https://a/t?x=y", "service": "s"}}}},
		{"spaces", []string{` Bearer  realm = "https://a/t" ,, service= "s" `},
			[]challenge{{"bearer", params{"realm": "https://a/t", "service": "s"}}}},
		{"escapes", []string{`Basic realm="a \"b\" \\"`}, []challenge{{"basic", params{"realm": `a "b" \`}}}},
		{"an open quote", []string{`Basic realm="abc`}, []challenge{{"basic", params{"realm": "abc"}}}},
		{"the first value of a name", []string{`Bearer realm="https://a/t", realm="https://evil/t"`},
			[]challenge{{"bearer", params{"realm": "https://a/t"}}}},
		{"junk", []string{`"", =, ;`}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := parseChallenges(http.Header{"Www-Authenticate": test.headers})
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(challenge{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",scope="x", Basic`)
	f.Add(`Negotiate YII==, Basic realm="\`)
	f.Fuzz(func(t *testing.T, header string) {
		got := parseChallenges(http.Header{"Www-Authenticate": {header}})
		if len(got) > maxChallenges {
			t.Errorf("%d challenges", len(got))
		}
	})
}
