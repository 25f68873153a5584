package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// finding is a line of davit doctor --json, as far as the tests need it.
type finding struct {
	Hop    string `json:"hop"`
	Host   string `json:"host"`
	Status string `json:"status"`
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
}

// TestDoctor has davit find out what is wrong with the way to real registries.
func TestDoctor(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	private, client, tokens, squid := privateDoor(t, open), clientDoor(t, open), tokenDoor(t, open), squidDoor(t, open)
	password := func(a account) []string {
		return []string{"DAVIT_USERNAME=" + a.name, "DAVIT_PASSWORD=" + a.password}
	}
	for _, test := range []struct {
		name  string
		door  *door
		flags []string
		env   []string
		code  []int
		fault string   // the hop
		says  []string // in text and remedy of the fault
	}{
		{name: "healthy, private CA", door: private, flags: private.flags(), env: password(robin), code: []int{0}},
		{name: "healthy, client certificate", door: client, flags: client.flags(), env: password(robin), code: []int{0}},
		{name: "healthy, token server", door: tokens, env: password(robin), code: []int{0}},
		{name: "healthy, squid", door: squid, flags: squid.flags(), env: append(password(robin), squid.env()...), code: []int{0}},
		{"unknown CA", private, nil, password(robin), []int{1}, "tls", []string{"--ca-cert", private.host}},
		{"no client certificate", client, []string{"--ca-cert", client.trust}, password(robin), []int{1, 4}, "", []string{"certificate"}},
		{"wrong password", private, private.flags(), password(mistaken), []int{4}, "", []string{"DAVIT_USERNAME"}},
		{"wrong password at the realm", tokens, nil, password(mistaken), []int{4}, "token", []string{"DAVIT_USERNAME"}},
		{"nothing granted", tokens, nil, password(job), []int{4}, "token", nil},
		{"no credential", tokens, nil, nil, []int{4}, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := davitCommand(t, append([]string{"doctor", test.door.image(robin)}, test.flags...)...)
			cmd.Env = append(cmd.Env, test.env...)
			r := endOf(t, cmd)
			t.Logf("davit doctor\n%s%s", r.stdout, r.stderr)
			r.exits(t, test.code...)
			keeps(t, "davit doctor", r.stdout+r.stderr)

			cmd = davitCommand(t, append([]string{"doctor", "--json", test.door.image(robin)}, test.flags...)...)
			cmd.Env = append(cmd.Env, test.env...)
			r = endOf(t, cmd)
			r.exits(t, test.code...)
			keeps(t, "davit doctor --json", r.stdout+r.stderr)

			findings := readFindings(t, r.stdout)
			faults := slices.DeleteFunc(slices.Clone(findings), func(f finding) bool { return f.Status != "fault" })
			if healthy := test.code[0] == 0; healthy != (len(faults) == 0) {
				t.Fatalf("exit %d with the faults %+v", r.code, faults)
			}
			if len(faults) == 0 {
				for _, hop := range []string{"/v2/", "challenge", "manifest", "blob", "ranges"} {
					if !slices.ContainsFunc(findings, func(f finding) bool { return f.Hop == hop && f.Status == "ok" }) {
						t.Errorf("nothing is said of the hop %s: %+v", hop, findings)
					}
				}
				return
			}
			first := faults[0]
			if test.fault != "" && first.Hop != test.fault {
				t.Errorf("the fault is at %q, want %q: %+v", first.Hop, test.fault, first)
			}
			for _, text := range test.says {
				if !strings.Contains(first.Host+first.Text+first.Remedy, text) {
					t.Errorf("the fault says nothing of %q: %+v", text, first)
				}
			}
		})
	}
}

func readFindings(t testing.TB, text string) []finding {
	t.Helper()
	var all []finding
	decoder := json.NewDecoder(strings.NewReader(text))
	for {
		var f finding
		err := decoder.Decode(&f)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("davit doctor --json printed %q: %v", text, err)
		}
		all = append(all, f)
	}
}
