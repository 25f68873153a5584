package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/components"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/layout"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/rootfs"
)

// circumstances are what the hint on an error depends on besides the error.
type circumstances struct {
	registry  string // as references name it
	resumable bool   // an interrupted command goes on where it was
	fetching  bool   // the transfer of blobs had begun
	config    bool   // the image's config is saved too
	login     bool   // the credential is to be stored
	splits    bool   // --split would write smaller files
	disk      string // the path of an image that is read, alone or besides the registry's
	carries   bool   // it is copied, so that there is --base
	target    string // the registry that is pushed to, as references name it
	source    string // the one that is copied from, likewise
	side      string // what stands before the names of the flags that give its credential
}

const goesOn = "run the same command again: it goes on from there"

// explain adds to err what a person can do about it, where davit knows.
func explain(ctx context.Context, err error, c circumstances) error {
	if interruption(ctx, err) == nil {
		return failure{err: err, hint: hint(err, c)}
	}
	if c.resumable && c.fetching {
		return failure{err: err, hint: c.again()}
	}
	return err
}

// again is how the command goes on, which may have fetched something.
func (c circumstances) again() string {
	switch {
	case !c.resumable || !c.fetching:
		return "run the same command again"
	case c.target != "":
		return "run the same command again: what has arrived whole is not sent again"
	}
	return goesOn
}

func hint(err error, c circumstances) string {
	var copies *davit.CopyError
	if errors.As(err, &copies) && len(copies.Failures) == 1 {
		err, c.fetching = copies.Failures[0].Err, false // what was fetched is perhaps of others
	}
	for _, known := range []func(error, circumstances) string{
		hintSeveral, hintDelta, hintPush, hintFormat, hintStore, hintContent, hintAccess, hintConnection, hintDisk, hintAgain,
	} {
		if h := known(err, c); h != "" {
			return h
		}
	}
	return ""
}

// hintSeveral is for some of several images.
func hintSeveral(err error, c circumstances) string {
	var some *davit.PullError
	var copies *davit.CopyError
	switch {
	case errors.As(err, &copies) && copies.KeepGoing && copies.Copied > 0:
		return "when these can be copied, run the same command again: what is there is not sent again"
	case errors.As(err, &copies) && !copies.KeepGoing && len(copies.Failures)+copies.Copied < copies.Asked:
		return "--keep-going copies the others without these"
	case !errors.As(err, &some):
		return ""
	case some.Written > 0:
		return "when they can be had, run the same command again, with all images: it writes the output anew"
	case len(some.Failures) < some.Asked && c.fetching && c.resumable:
		return "what was fetched of the others is kept for when the same command runs again; --keep-going writes them without these"
	case len(some.Failures) < some.Asked:
		return "--keep-going writes the others without these"
	}
	return ""
}

// hintFormat is for what a format cannot hold.
func hintFormat(err error, c circumstances) string {
	var conflict *rootfs.ConflictError
	switch {
	case errors.Is(err, davit.ErrNoFileSystem):
		return "-f components or -f oci takes it as it is"
	case errors.As(err, &conflict):
		return "write it as one tar with -f rootfs, or into a file system that tells these names apart"
	case errors.Is(err, rootfs.ErrNotEmpty):
		return "choose a directory that is empty or not there, with -o DIR"
	case errors.Is(err, layout.ErrNoLayout) && c.disk == "" && c.carries:
		return "choose an image layout, or a directory that is empty or not there"
	case errors.Is(err, layout.ErrNoLayout) && c.disk == "":
		return "choose an image layout, or a directory that is empty or not there, with -o DIR"
	}
	return ""
}

// hintStore is for images that are read from this machine's disk.
func hintStore(err error, c circumstances) string {
	switch {
	case c.disk == "":
	case errors.Is(err, layout.ErrNoLayout), errors.Is(err, components.ErrNoComponents), errors.Is(err, archive.ErrNoArchive):
		return "what can be read is an archive of images, an OCI image layout, or a directory that -f components wrote"
	case errors.Is(err, image.ErrVerification) && c.registry == "":
		return fmt.Sprintf("davit verify %s tells all that is wrong there", shellWord(c.disk))
	case errors.Is(err, image.ErrVerification):
		return fmt.Sprintf("davit verify %s tells whether it is wrong there; else the registry, or a proxy before it, sends wrong content", shellWord(c.disk))
	}
	return ""
}

// hintContent is for what the registry has, or has not.
func hintContent(err error, c circumstances) string {
	var (
		refused   *registry.Error
		foreign   *registry.ForeignError
		platforms *image.PlatformError
	)
	switch {
	case errors.Is(err, image.ErrVerification) && c.fetching && c.resumable:
		return "the registry, or a proxy before it, sends wrong content; what was right is kept for when the same command runs again"
	case errors.Is(err, image.ErrVerification):
		return "the registry, or a proxy before it, sends wrong content; tell who runs it"
	case errors.As(err, &platforms):
		return "" // the error lists what there is
	case errors.As(err, &foreign):
		return "--no-foreign writes the image without the layers that have URLs"
	case errors.Is(err, image.ErrNotFound) && (c.fetching || errors.As(err, &refused) && strings.HasPrefix(refused.Step, "get blob")):
		return "the registry lacks a part of the image: tell who runs it, or push the image again"
	case errors.Is(err, image.ErrNotFound) && errors.As(err, &refused) && refused.Status == http.StatusNotFound && strings.HasPrefix(refused.Step, "list tags"):
		return "check the name; some registries answer so too where a login is needed"
	case errors.Is(err, image.ErrNotFound) && errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		return "check the name and the tag; some registries answer so too where a login is needed"
	}
	return ""
}

// hintAccess is for what the registry refuses.
func hintAccess(err error, c circumstances) string {
	var refused *registry.Error
	switch {
	case errors.Is(err, registry.ErrBlocked):
		return "that file blocks it on this machine: ask who keeps it, or change it"
	case errors.Is(err, registry.ErrCredential):
		if errors.Is(err, fs.ErrNotExist) {
			return "check the path in --authfile; davit login writes a file that is read without it"
		}
		return "mend or remove that file or its entry (auths, credsStore or credHelpers), or give -u USER with --password-stdin"
	case errors.Is(err, registry.ErrRealm):
		return "who runs the registry has to name a token server (realm) that is safe to send a credential to"
	case errors.Is(err, registry.ErrChallenge) && (!errors.As(err, &refused) || refused.Credential == ""):
		return "davit can meet Basic and Bearer: ask who runs the registry for one of them, and check that what answers is a registry"
	case elsewhere(err, c) != "" && errors.As(err, &refused) && refused.Status == http.StatusForbidden && !errors.Is(err, image.ErrUnauthorized):
		return "the registry leads to " + refused.Host + ": check this machine's clock, and ask who runs the registry, or the firewall, why the link is refused"
	case !errors.Is(err, image.ErrUnauthorized):
		return ""
	}
	switch {
	case c.login:
		return "check the user's name and the password or token; where two factors or single sign-on are in use, a token is wanted in place of the password"
	case errors.As(err, &refused) && refused.Credential != "" && refused.Status == http.StatusForbidden:
		return "ask for the right to read (pull) this repository, or use another credential"
	case errors.As(err, &refused) && refused.Credential != "":
		return "check the user's name and the password or token (with two factors it is a token), and that it may read (pull) this repository"
	}
	return "log in with " + loginTo(cmp.Or(c.source, c.registry)) + ", or give " + c.givenBy() + "; registries answer so too where the name is wrong"
}

// loginTo is the command that logs in to a registry, which may be unknown.
func loginTo(registry string) string {
	if registry == "docker.io" || registry == "" {
		return "davit login"
	}
	return "davit login " + registry
}

// givenBy are the flags that give a credential for what is read.
func (c circumstances) givenBy() string {
	if c.side != "" {
		return "--src-username USER with --src-password-stdin, or --src-token-stdin"
	}
	return "-u USER with --password-stdin, or --token-stdin"
}

// elsewhere is the host that refused or failed where it is not the registry as
// it was asked for, but one that it leads to: of the API, of tokens, of layers.
func elsewhere(err error, c circumstances) string {
	var failed *registry.Error
	if !errors.As(err, &failed) || failed.Host == c.registry || c.registry == "" {
		return ""
	}
	return failed.Host
}

// hintConnection is for registries that cannot be reached or trusted.
func hintConnection(err error, c circumstances) string {
	var (
		otherHost x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.Is(err, registry.ErrCertificateFile):
		return "check the file: PEM, readable, and a key without a passphrase (openssl pkey -in KEY -out NEW removes one); --key names a key that is not in the file of --cert"
	case errors.Is(err, registry.ErrProxyAuth):
		return "give the proxy's user and password: --proxy http://USER:PASSWORD@HOST:PORT, or so in HTTPS_PROXY, which other users of the machine cannot see"
	case errors.Is(err, registry.ErrProxyRefusal):
		return "check the registry's name, and ask who runs the proxy whether it lets through to it; hosts to reach without a proxy stand in NO_PROXY"
	case errors.Is(err, registry.ErrProxy):
		return "check --proxy, or HTTPS_PROXY and HTTP_PROXY; hosts to reach without a proxy stand in NO_PROXY"
	case errors.Is(err, registry.ErrPlainHTTP):
		return "if the registry is meant to be without TLS, write http:// in place of https://, or add --plain-http to a name without either"
	case errors.Is(err, registry.ErrHTTPS):
		return "leave out --plain-http, or write https:// in place of http://"
	case errors.Is(err, registry.ErrClientCertificate):
		return "give a certificate that the server knows with --cert FILE and --key FILE, or put client.cert and client.key into certs.d, as for docker"
	case errors.As(err, &otherHost):
		return "check the registry's name against those that its certificate is for, or accept any certificate with --insecure"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "set this machine's clock if it is wrong; else who runs the registry has to renew the certificate, and --insecure accepts any until then"
	case errors.Is(err, registry.ErrCertificate):
		return "trust the CA that signed it with --ca-cert ca.pem, or accept any certificate with --insecure"
	case errors.Is(err, registry.ErrTLS):
		return "check the port; add --plain-http if the registry is meant to be without TLS"
	case elsewhere(err, c) != "" && (errors.Is(err, registry.ErrUnknownHost) || errors.Is(err, registry.ErrRefused)):
		return "check that " + elsewhere(err, c) + ", to which " + c.registry + " leads, can be reached from here; behind a proxy, set HTTPS_PROXY or give --proxy"
	case errors.Is(err, registry.ErrUnknownHost):
		return "check the registry's name; behind a proxy, set HTTPS_PROXY or give --proxy"
	case errors.Is(err, registry.ErrRefused):
		return "check the registry's name and port, and that it runs; behind a proxy, set HTTPS_PROXY or give --proxy"
	case errors.Is(err, registry.ErrUnreachable):
		return "check the network; behind a proxy, set HTTPS_PROXY or give --proxy"
	}
	return ""
}

// hintDisk is for outputs that cannot be written.
func hintDisk(err error, c circumstances) string {
	another := "write to another place with -o PATH"
	if c.carries {
		another = "choose another destination"
	}
	switch {
	case (errors.Is(err, partial.ErrTooLarge) || errors.Is(err, syscall.EFBIG)) && c.splits:
		return "write the archive in parts with --split 4G, which FAT32 holds, or to another file system with -o PATH"
	case (errors.Is(err, partial.ErrTooLarge) || errors.Is(err, syscall.EFBIG)) && c.carries:
		return "FAT32 holds files of less than 4 GiB: davit pull --split 4G writes an archive in parts; or " + another
	case errors.Is(err, partial.ErrTooLarge), errors.Is(err, syscall.EFBIG):
		return "FAT32 holds files of less than 4 GiB: write to another file system, or in parts with davit pull IMAGE -o PATH --split 4G"
	case errors.Is(err, partial.ErrLocked):
		return "wait for it to end, or " + another
	case errors.Is(err, partial.ErrNoSpace) && !c.resumable:
		return "make room there, or set TMPDIR to another directory, or write a file with -o FILE"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, partial.ErrNoSpace):
		if c.resumable {
			return "make room and run the same command again: it goes on from there; or " + another
		}
		return "make room"
	case c.disk != "" && !c.resumable && errors.Is(err, fs.ErrPermission):
		return "check that you may read " + shellWord(c.disk)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG):
		if c.config {
			return "write to another place with -o PATH and --save-config FILE"
		}
		return another
	}
	return ""
}

// hintAgain is for what may pass.
func hintAgain(err error, c circumstances) string {
	var (
		network net.Error
		retry   *image.RetryError
		refused *registry.Error
	)
	again := c.again()
	switch {
	case errors.As(err, &retry) && errors.As(err, &refused) && refused.Status >= http.StatusInternalServerError:
		return "the server has a fault of its own, or is overloaded: wait; then " + again
	case errors.As(err, &retry) && retry.Busy && c.registry == "docker.io":
		return "Docker Hub limits pulls: log in with davit login for more, or wait; then " + again
	case errors.As(err, &retry) && retry.Busy:
		return "the registry asks for fewer requests: wait; then " + again
	case errors.As(err, &retry), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), c.fetching:
		return again
	}
	return ""
}
