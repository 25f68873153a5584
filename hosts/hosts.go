// Package hosts knows how hosts are reached: with which scheme, certificates
// and mirrors, as flags and the configuration files of Docker, Podman and
// containerd say it.
package hosts

// Host is how one host is reached. The zero value: HTTPS (on loopback HTTP
// where the host does not speak TLS), the system's CAs, no certificate of ours.
type Host struct {
	// Scheme is "http" or "https" where one is prescribed.
	Scheme string
	// Insecure accepts any certificate. Each command that meets such a host warns
	// of it.
	Insecure bool
	// Plain lets a host be spoken to in plain HTTP where Scheme is empty and it
	// does not speak TLS: what configuration files mean by insecure. A command
	// that does so warns of it.
	Plain bool
	// CAFiles are PEM files of CAs to trust for this host beside the system's.
	CAFiles []string
	// KeyPairs are certificates that are shown to a host that asks for one: the
	// first that it takes.
	KeyPairs []KeyPair
	// Source is what says so, a file or a flag, for messages. Of several the
	// one that says Scheme, Insecure or Plain.
	Source string
}

// KeyPair is a certificate of ours and its private key, in PEM files, which
// may be one and the same.
type KeyPair struct{ CertFile, KeyFile string }

// Endpoint is a repository at one place: at the registry that references
// name, or at a mirror of it.
type Endpoint struct {
	// Registry is host or host:port, as references and credentials name it:
	// docker.io for Docker Hub.
	Registry string
	// Repository is the repository's path there.
	Repository string
	// Host is how it is reached.
	Host Host
	// NoTags and NoDigests tell what a mirror is not to be asked for.
	NoTags, NoDigests bool
	// Source is what names it, a file or a flag, for messages.
	Source string
}

// Route is where a repository's content may be asked for.
type Route struct {
	Origin  Endpoint
	Mirrors []Endpoint // preferred first
	// Blocked is the file that forbids the registry; empty where none does.
	Blocked string
	// Ignored is what is configured for the repository and cannot be followed.
	Ignored []Ignored
}

// Ignored is a piece of configuration that cannot be followed, for messages.
type Ignored struct {
	What   string // a mirror, a prefix
	Source string // the file that says it
	Why    string
}

// String is one line.
func (i Ignored) String() string { return i.What + " (" + i.Source + "): " + i.Why }
