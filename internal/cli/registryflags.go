package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

// registryFlags tell how registries are reached, and as whom.
type registryFlags struct {
	login credentialFlags
	reach hostFlags
}

func (f *registryFlags) add(flags *pflag.FlagSet) {
	f.login.add(flags)
	f.reach.add(flags)
}

func (f *registryFlags) validate(references []ref.Reference) error {
	if err := f.login.validate(registries(references)); err != nil {
		return err
	}
	return f.reach.validate(references)
}

// registries are those of the references, each once.
func registries(references []ref.Reference) []string {
	var hosts []string
	for _, r := range references {
		if !slices.Contains(hosts, r.Registry) {
			hosts = append(hosts, r.Registry)
		}
	}
	return hosts
}

// options also asks for the password where a user was named. The credential
// that flags give is for the references' one registry alone.
func (f *registryFlags) options(ctx context.Context, s streams, references []ref.Reference) (registry.Options, error) {
	opts, err := f.reach.options(references)
	if err != nil {
		return registry.Options{}, err
	}
	opts.Credentials, err = f.login.provider(ctx, s, registries(references))
	return opts, err
}

// credentialFlags tell as whom registries are asked.
type credentialFlags struct {
	// side is what stands before the flags' names where a command has two sides:
	// src- or dest-.
	side          string
	username      string
	passwordStdin bool
	tokenStdin    bool
	authfile      string
	given         func(flag string) bool
}

func (f *credentialFlags) add(flags *pflag.FlagSet) {
	f.addGiven(flags)
	flags.StringVar(&f.authfile, f.side+"authfile", "", "`FILE` with credentials as podman login stores them")
}

// addGiven is add for the flags that give a credential themselves.
func (f *credentialFlags) addGiven(flags *pflag.FlagSet) {
	short := "u"
	if f.side != "" {
		short = ""
	}
	flags.StringVarP(&f.username, f.side+"username", short, "", "`USER` for the registry; asks for the password unless --"+f.side+"password-stdin")
	flags.BoolVar(&f.passwordStdin, f.side+"password-stdin", false, "read the password from stdin")
	flags.BoolVar(&f.tokenStdin, f.side+"token-stdin", false, "read a token from stdin, of whatever kind the registry takes")
	f.given = flags.Changed
}

// flag is one of the flags as it is written.
func (f *credentialFlags) flag(name string) string { return "--" + f.side + name }

// stdin is the flag that wants stdin, or empty.
func (f *credentialFlags) stdin() string {
	switch {
	case f.passwordStdin:
		return f.flag("password-stdin")
	case f.tokenStdin:
		return f.flag("token-stdin")
	}
	return ""
}

func (f *credentialFlags) validate(registries []string) error {
	flag := f.flag("username")
	if f.tokenStdin && f.username == "" {
		flag = f.flag("token-stdin")
	}
	switch {
	case f.given(f.side+"username") && f.username == "":
		return usagef("%s is empty", f.flag("username"))
	case strings.Contains(f.username, ":"):
		return errPasswordInUsername
	case f.given(f.side+"authfile") && f.authfile == "":
		return usagef("%s is empty", f.flag("authfile"))
	case f.passwordStdin && f.tokenStdin:
		return usagef("%s and %s both want stdin", f.flag("password-stdin"), f.flag("token-stdin"))
	case f.passwordStdin && f.username == "":
		return usagef("%s needs %s; a token alone is given with %s", f.flag("password-stdin"), f.flag("username"), f.flag("token-stdin"))
	case (f.username != "" || f.tokenStdin) && len(registries) > 1:
		return usagef("%s is for one registry, but the images are in %s", flag, strings.Join(registries, " and "))
	}
	return nil
}

// errPasswordInUsername does not repeat what was given, as curl takes it.
var errPasswordInUsername = usagef("--username holds a colon, which no user's name does: a password is given with --password-stdin")

// provider looks where the help says that it does (credentialsHelp). It asks
// for a password where only a user was named. What was given for this command is
// for the images' registries, and not for mirrors.
func (f *credentialFlags) provider(ctx context.Context, s streams, registries []string) (credential.Provider, error) {
	given, err := f.fromFlags(ctx, s, registries)
	if err != nil {
		return nil, err
	}
	environment := credential.Environment(nil, registries...)
	if given == nil {
		if err := checkEnvironment(ctx, environment, registries); err != nil {
			return nil, err
		}
	}
	return f.chain(given, environment), nil
}

func (f *credentialFlags) chain(given, environment credential.Provider) credential.Provider {
	return credential.Chain(given, environment, credential.GitLab(nil), credential.Stored(credential.StoredOptions{AuthFile: f.authfile}))
}

// fromFlags is the credential that the flags give, or nil.
func (f *credentialFlags) fromFlags(ctx context.Context, s streams, registries []string) (credential.Provider, error) {
	switch {
	case f.tokenStdin:
		token, err := readSecret(ctx, s.in, f.flag("token-stdin"))
		return credential.GivenToken(f.username, token, f.flag("token-stdin"), registries[0]), err
	case f.passwordStdin:
		password, err := readSecret(ctx, s.in, f.flag("password-stdin"))
		return credential.Given(f.username, password, f.flag("username"), registries[0]), err
	case f.username != "":
		password, err := askPassword(ctx, s, f.side, fmt.Sprintf("Password of %s for %s: ", f.username, registries[0]))
		return credential.Given(f.username, password, f.flag("username"), registries[0]), err
	}
	return nil, nil
}

// checkEnvironment finds half a credential, and one that would go to several
// registries, before any request is made.
func checkEnvironment(ctx context.Context, environment credential.Provider, registries []string) error {
	var wanted []string
	for _, host := range registries {
		c, err := environment(ctx, host, "")
		if err != nil {
			return usageError{err}
		}
		if !c.Anonymous() {
			wanted = append(wanted, host)
		}
	}
	if len(wanted) > 1 {
		return usagef("the credential of %s, %s and %s is for one registry, but the images are in %s: set %s to the one",
			credential.UsernameVariable, credential.PasswordVariable, credential.TokenVariable,
			strings.Join(wanted, " and "), credential.RegistryVariable)
	}
	return nil
}

// hostFlags tell how hosts are reached.
type hostFlags struct {
	caCerts   []string
	cert, key string
	insecure  hostList
	plainHTTP hostList
	proxy     string
	mirrors   []string
	given     func(flag string) bool

	config *hosts.Config  // by files
	parsed []hosts.Mirror // by validate
	unread []error        // configuration that we may not read, by options
}

func (f *hostFlags) add(flags *pflag.FlagSet) {
	f.addWithoutMirrors(flags)
	flags.StringArrayVar(&f.mirrors, "mirror", nil, "`MIRROR` with the same content: [REGISTRY=]HOST[/PREFIX]; repeatable")
}

func (f *hostFlags) addWithoutMirrors(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.caCerts, "ca-cert", nil, "`FILE` of CAs to trust beside the system's (PEM); repeatable")
	flags.StringVar(&f.cert, "cert", "", "`FILE` of a client certificate for the registry (PEM)")
	flags.StringVar(&f.key, "key", "", "`FILE` of its private key (default: the file of --cert)")
	flags.Var(&f.insecure, "insecure", "accept any certificate, of the registry or of HOST``; repeatable")
	flags.Var(&f.plainHTTP, "plain-http", "speak HTTP, to the registry or HOST``; repeatable (on loopback that is found out)")
	for _, flag := range []string{"insecure", "plain-http"} {
		flags.Lookup(flag).NoOptDefVal = theRegistry
	}
	flags.StringVar(&f.proxy, "proxy", "", "`URL` of a proxy, in place of the environment's: http, https, socks5")
	f.given = flags.Changed
}

func (f *hostFlags) validate(references []ref.Reference) error {
	for _, flag := range []string{"cert", "key", "proxy"} {
		if value := map[string]string{"cert": f.cert, "key": f.key, "proxy": f.proxy}[flag]; f.given(flag) && value == "" {
			return usagef("--%s is empty", flag)
		}
	}
	switch {
	case f.key != "" && f.cert == "":
		return usagef("--key needs --cert")
	case slices.Contains(f.caCerts, ""):
		return usagef("--ca-cert is empty")
	}
	for _, r := range references {
		if f.plainHTTP.registry && r.Scheme == "https" {
			return usagef("--plain-http contradicts https://%s", r.Registry)
		}
	}
	for _, s := range f.mirrors {
		m, err := hosts.ParseMirror(s)
		if err != nil {
			return usagef("--mirror: %w", err)
		}
		f.parsed = append(f.parsed, m)
	}
	if f.proxy != "" {
		if _, err := registry.ProxyURL(f.proxy, ""); err != nil {
			return usagef("--proxy: %s", strings.TrimPrefix(err.Error(), registry.ErrProxy.Error()+": "))
		}
	}
	return nil
}

// misplaced finds an argument that was meant as the value of --insecure or
// --plain-http, which stand alone or with "=": a registry without an image.
func (f *hostFlags) misplaced(names []string) error {
	for _, flag := range []string{"insecure", "plain-http"} {
		list := map[string]hostList{"insecure": f.insecure, "plain-http": f.plainHTTP}[flag]
		for i, name := range names {
			host := func(other string) bool { return strings.HasPrefix(other, name+"/") }
			_, err := ref.Parse(name)
			if list.registry && !strings.Contains(name, "/") && (err != nil && len(names) > 1 || slices.ContainsFunc(slices.Delete(slices.Clone(names), i, i+1), host)) {
				return usagef("%q is no image; a host for --%s is written --%s=%s", name, flag, flag, name)
			}
		}
	}
	return nil
}

// options reads the configuration files of Docker, Podman and containerd too.
func (f *hostFlags) options(references []ref.Reference) (registry.Options, error) {
	config, err := f.files()
	if err != nil {
		return registry.Options{}, err
	}
	if config, err = config.With(f.flags(references)); err != nil {
		return registry.Options{}, err
	}
	f.unread = config.Unread()
	proxy, err := f.proxyFunc()
	if err != nil {
		return registry.Options{}, usageError{err}
	}
	return registry.Options{Hosts: config.Host, Routes: config.Route, Proxy: proxy, UserAgent: userAgent()}, nil
}

// files are what the configuration files say, read once for names and hosts.
func (f *hostFlags) files() (*hosts.Config, error) {
	if f.config != nil {
		return f.config, nil
	}
	var err error
	f.config, err = hosts.Load(hosts.Environment{})
	return f.config, err
}

// tellUnread tells what options had to pass over: whoever put a certificate
// there wonders why it is not known.
func (f *hostFlags) tellUnread(tell func(format string, args ...any)) {
	for _, err := range f.unread {
		tell("not read: %v", err)
	}
}

// flags are what goes before those files.
func (f *hostFlags) flags(references []ref.Reference) hosts.Flags {
	var reached []string // as URLs have them
	for _, r := range references {
		reached = append(reached, r.Host())
	}
	flags := hosts.Flags{
		CAFiles: f.caCerts, Mirrors: f.parsed,
		Insecure: f.insecure.of(reached), PlainHTTP: f.plainHTTP.of(reached),
	}
	if f.cert != "" {
		flags.KeyPair, flags.KeyPairHosts = hosts.KeyPair{CertFile: f.cert, KeyFile: cmp.Or(f.key, f.cert)}, reached
	}
	return flags
}

func (f *hostFlags) proxyFunc() (func(*http.Request) (*url.URL, error), error) {
	if f.proxy == "" {
		return registry.ProxyFromEnvironment(), nil
	}
	return registry.ProxyURL(f.proxy, cmp.Or(os.Getenv("no_proxy"), os.Getenv("NO_PROXY")))
}

func userAgent() string { return "davit/" + currentBuild().Version }

// theRegistry stands for the images' registries in a hostList. The help shows it
// as the value that may be left out: --insecure[=HOST].
const theRegistry = "HOST"

// hostList is a flag's value: the images' registries where the flag stands
// alone, and hosts that it names.
type hostList struct {
	registry bool
	hosts    []string
}

// of is the list, with reached as the images' registries.
func (l *hostList) of(reached []string) []string {
	if !l.registry {
		return l.hosts
	}
	return slices.Concat(reached, l.hosts)
}

func (l *hostList) String() string {
	if l.registry {
		return strings.Join(append([]string{theRegistry}, l.hosts...), ",")
	}
	return strings.Join(l.hosts, ",")
}

// Set implements pflag.Value.
func (l *hostList) Set(s string) error {
	switch s {
	case theRegistry, "true":
		l.registry = true
	case "false":
		*l = hostList{}
	default:
		for host := range strings.SplitSeq(s, ",") {
			if r, err := ref.Parse("https://" + host + "/x"); err != nil || strings.ContainsAny(host, "/@") || r.Scheme == "" {
				return fmt.Errorf("want HOST or HOST:PORT, or no value for the registry itself")
			}
			l.hosts = append(l.hosts, strings.ToLower(host))
		}
	}
	return nil
}

// Type implements pflag.Value.
func (*hostList) Type() string { return "HOST" }
