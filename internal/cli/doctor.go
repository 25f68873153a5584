package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

const doctorLong = `Walk the way to an image hop by hop, as a pull goes it, and print a line for each:
ok, or the fault and its remedy.

  proxy, name, tcp, tls   for the registry, and for each host that it leads to
  /v2/, challenge         what the registry answers, and how it is convinced
  credential              where the one in use comes from
  realm, token            who gives tokens, and what the token grants
  manifest                of the image
  blob, ranges            who serves its largest layer, and whether in pieces
  limit                   how many pulls are left
  clock                   this machine's beside the servers'

Mirrors have a section each. The requests are a pull's, with the same flags and
configuration; of a layer a few KiB are fetched, and nothing is written. Where
pulls are counted, as Docker Hub does, this counts as one. No secret is printed.`

const doctorExample = `  davit doctor alpine
  davit doctor registry.lan:5000/team/app:1 --ca-cert ca.pem
  davit doctor ghcr.io/org/app:1 --json`

const doctorFooter = `Exit codes, as davit pull would end:
  0 it would work, perhaps with warnings   1 fault   2 wrong usage   3 not found
  4 not authorized   5 content failed verification   130, 143 interrupted

` + credentialsHelp + `

` + hostsHelp

type doctorOptions struct {
	registry registryFlags
	display  displayFlags

	reference ref.Reference // by validate
	alias     *alias        // that it was
}

func newDoctor(s streams) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:               "doctor IMAGE",
		Short:             "Find out why an image cannot be pulled",
		Long:              doctorLong,
		Example:           doctorExample,
		Annotations:       map[string]string{"footer": doctorFooter},
		ValidArgsFunction: completeNames(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	o.registry.add(flags)
	o.display.addMessages(cmd)
	return cmd
}

func (o *doctorOptions) validate(args []string) error {
	var err error
	if o.reference, o.alias, err = parseOne("doctor", args, &o.registry); err != nil {
		return err
	}
	if err := o.display.validate(); err != nil {
		return err
	}
	return o.registry.validate([]ref.Reference{o.reference})
}

func (o *doctorOptions) run(ctx context.Context, s streams) error {
	opts, err := o.registry.options(ctx, s, []ref.Reference{o.reference})
	if err != nil {
		return err
	}
	shown := o.display.open(s.err)
	opts.Trace, opts.Events = shown.trace, shown.events
	if o.alias != nil {
		shown.note("%s", o.alias)
	}
	o.registry.reach.tellUnread(shown.note)
	p := &prescription{
		out: toReader{s.out}, json: o.display.json, quiet: o.display.quiet,
		proxyFlag: o.registry.reach.proxy != "",
		about:     circumstances{registry: o.reference.Registry},
	}
	if !o.display.quiet {
		p.heading(o.reference.String())
	}
	err = registry.Diagnose(ctx, o.reference, opts, p.add)
	p.flush()
	shown.Close()
	switch {
	case err != nil && interruption(ctx, err) != nil:
		return err
	case p.err != nil && interruption(ctx, p.err) != nil:
		return p.err
	case err != nil:
		return fmt.Errorf("a pull of %s would fail: %w", o.reference, err)
	case p.err != nil:
		return fmt.Errorf("print the findings: %w", p.err)
	}
	return nil
}

// prescription prints findings, and what to do about them.
type prescription struct {
	out       io.Writer
	json      bool
	quiet     bool // only what is wrong; JSON is for programs, and whole
	proxyFlag bool // --proxy was given
	about     circumstances

	mirror  string             // whose section it is
	skipped []registry.Finding // that have the same reason, and so one line
	err     error              // the first in printing
}

// diagnosed is a finding as JSON.
type diagnosed struct {
	Hop     string            `json:"hop"`
	Host    string            `json:"host"`
	Mirror  string            `json:"mirror,omitempty"`
	Status  string            `json:"status"`
	Text    string            `json:"text"`
	Remedy  string            `json:"remedy,omitempty"`
	Seconds float64           `json:"seconds,omitempty"`
	Details map[string]string `json:"details,omitempty"`
}

func (p *prescription) add(f registry.Finding) {
	f = p.sourced(f)
	f.Text, f.Host = line(f.Text), line(f.Host)
	if p.json {
		if err := printJSON(p.out, diagnosed{
			Hop: string(f.Hop), Host: f.Host, Mirror: f.Mirror, Status: string(f.Status), Text: f.Text,
			Remedy: line(remedy(f, p.about)), Seconds: f.Duration.Seconds(), Details: f.Details,
		}); err != nil && p.err == nil {
			p.err = err
		}
		return
	}
	if p.quiet && (f.Status == registry.StatusOK || f.Status == registry.StatusSkipped) {
		return
	}
	if len(p.skipped) > 0 && (f.Status != registry.StatusSkipped || f.Text != p.skipped[0].Text || f.Mirror != p.mirror) {
		p.flush()
	}
	if f.Mirror != p.mirror {
		p.mirror = f.Mirror
		if f.Mirror == "" {
			p.heading("together")
		} else {
			p.heading("mirror " + line(f.Mirror))
		}
	}
	if f.Status == registry.StatusSkipped {
		p.skipped = append(p.skipped, f)
		return
	}
	p.print("  %-6s %-10s %s\n", shownStatus[f.Status], f.Hop, findingText(f))
	if todo := remedy(f, p.about); todo != "" {
		p.print("         remedy: %s\n", line(todo))
	}
}

// sourced is a finding of a proxy with what names the proxy.
func (p *prescription) sourced(f registry.Finding) registry.Finding {
	switch {
	case f.Hop != registry.HopProxy || f.Status == registry.StatusSkipped:
	case f.Details["proxy"] == "" && p.proxyFlag:
		f.Text = "none, although --proxy is given: NO_PROXY lists the host"
	case f.Details["proxy"] == "":
	case p.proxyFlag:
		f.Details["source"] = "--proxy"
		fallthrough
	case f.Details["source"] != "":
		f.Text += " (from " + f.Details["source"] + ")"
	}
	return f
}

// flush prints what is kept back.
func (p *prescription) flush() {
	if len(p.skipped) == 0 {
		return
	}
	var hops []string
	for _, f := range p.skipped {
		hops = append(hops, string(f.Hop))
	}
	p.print("  %-6s %-10s %s\n", shownStatus[registry.StatusSkipped], strings.Join(hops, ", ")+":", p.skipped[0].Text)
	p.skipped = nil
}

func (p *prescription) heading(text string) {
	if !p.json {
		p.print("%s\n", text)
	}
}

func (p *prescription) print(format string, args ...any) {
	if _, err := fmt.Fprintf(p.out, format, args...); err != nil && p.err == nil {
		p.err = err
	}
}

// shownStatus is how a status stands at a line's beginning.
var shownStatus = map[registry.Status]string{
	registry.StatusOK: "ok", registry.StatusWarning: "warn", registry.StatusFault: "FAULT", registry.StatusSkipped: "skip",
}

// findingText is a finding with the host where it is not clear from the text.
func findingText(f registry.Finding) string {
	switch f.Hop {
	case registry.HopName:
		if f.Details["addresses"] != "" {
			return f.Host + " -> " + f.Text
		}
		return f.Host + ": " + f.Text
	case registry.HopTCP:
		if f.Details["address"] != "" {
			return f.Text
		}
		return f.Host + ": " + f.Text
	case registry.HopProxy, registry.HopTLS, registry.HopClock:
		return f.Host + ": " + f.Text
	}
	return f.Text
}

// remedy is what a person can do about a finding.
func remedy(f registry.Finding, about circumstances) string {
	if f.Status != registry.StatusFault && f.Status != registry.StatusWarning {
		return ""
	}
	if f.Mirror != "" {
		about.registry, _, _ = strings.Cut(f.Mirror, "/")
	}
	var refused *registry.Error
	switch {
	case errors.Is(f.Err, registry.ErrClock):
		return "set this machine's clock, best by NTP; if it is right, tell who runs " + f.Host
	case f.Hop == registry.HopTLS:
		return certificateRemedy(f, about)
	case f.Hop == registry.HopAPI && (errors.Is(f.Err, image.ErrNotFound) || errors.As(f.Err, &refused) && refused.Status/100 == 3):
		return "check the host and the port: what answers there may be no registry"
	case f.Hop == registry.HopToken && f.Details["granted"] != "" && errors.As(f.Err, &refused) && refused.Credential != "":
		return "the token server has taken the credential: ask for the right to read (pull) this repository, or use another one; it answers so too where the name is wrong"
	case f.Hop == registry.HopChallenge:
		return hintAccess(registry.ErrChallenge, about)
	case f.Hop == registry.HopRanges:
		return "none is needed: pulls are slower, and start a layer over when its connection is cut; who runs the registry or a cache before it can let Range requests pass"
	case f.Hop == registry.HopLimit:
		return hintAgain(nil, about)
	case f.Err == nil:
		return ""
	}
	return hint(f.Err, about)
}

// certificateRemedy is what to do about a server's certificate.
func certificateRemedy(f registry.Finding, about circumstances) string {
	var unknown x509.UnknownAuthorityError
	switch {
	case f.Err == nil && f.Details["days_left"] != "":
		return "who runs " + f.Host + " has to renew the certificate"
	case f.Err == nil && f.Details["authority"] != "":
		return "trust the CA with --ca-cert ca.pem, and have certificates checked"
	case errors.As(f.Err, &unknown):
		return trust(f.Host, about)
	case errors.Is(f.Err, registry.ErrClientCertificate) && runtime.GOOS == "linux":
		return "--cert FILE and --key FILE, or save them as client.cert and client.key in /etc/docker/certs.d/" + f.Host
	case f.Err != nil:
		return hint(f.Err, about)
	}
	return ""
}

// trust tells which file has to have a CA in it.
func trust(host string, about circumstances) string {
	todo := "--ca-cert ca.pem"
	if runtime.GOOS == "linux" {
		if about.registry != "docker.io" {
			todo += ", or save the CA as /etc/docker/certs.d/" + host + "/ca.crt"
		}
		return todo + ", or SSL_CERT_FILE=ca.pem"
	}
	return todo + ", or add the CA to the system's"
}
