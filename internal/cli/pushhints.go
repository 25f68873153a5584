package cli

import (
	"errors"
	"net/http"
	"strings"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/registry"
)

// hintPush is for what a registry does not take.
func hintPush(err error, c circumstances) string {
	var refused *registry.Error
	if errors.Is(err, davit.ErrOtherDigest) && c.side == "" {
		return "give a name without a digest, such as registry.lan/app:1: where not all of an index is there, its digest changes"
	}
	if errors.Is(err, davit.ErrOtherDigest) {
		return "leave out the destination's digest, or name the source by it"
	}
	if !errors.As(err, &refused) || !isOfPush(refused) {
		return ""
	}
	says := strings.ToLower(refused.Message)
	switch {
	case strings.Contains(says, "quota"), refused.Status == http.StatusInsufficientStorage:
		return "the registry has no more room there: delete images, or ask who runs it for more"
	case strings.Contains(says, "immutable"):
		return "that tag is there already and may not be changed: choose another one"
	case errors.Is(err, registry.ErrUploadLost):
		return "the registry does not keep uploads until they are whole: where it is several servers, they need one storage; tell who runs it"
	case errors.Is(err, image.ErrUnauthorized):
		return hintPushAccess(refused, c)
	}
	switch {
	case refused.Code == registry.CodeManifestInvalid:
		return "the registry may not know this kind of manifest: some take no indexes, attestations or artifacts, and -p OS/ARCH copies one platform's manifest"
	case refused.Code == registry.CodeManifestBlobUnknown:
		return "the registry has lost a blob that it had a moment ago, to its garbage collection perhaps: run the same command again"
	case refused.Status == http.StatusMethodNotAllowed, refused.Code == registry.CodeUnsupported:
		return "it can only be read: it may be a mirror, or set so; ask who runs it where to push to"
	case refused.Status == http.StatusNotFound:
		return "create the repository first, where the registry wants that (ECR), or its project (Harbor, GitLab, Artifactory); else check the name"
	case refused.Status == http.StatusRequestEntityTooLarge:
		return "the registry, or a proxy before it, takes no bodies of that size: who runs it has to allow larger ones (nginx: client_max_body_size)"
	}
	return ""
}

// hintPushAccess is for who may not push.
func hintPushAccess(refused *registry.Error, c circumstances) string {
	user := "--" + c.side + "username"
	if refused.Credential != "" && (refused.Status == http.StatusForbidden || refused.Scope != "" && strings.HasPrefix(refused.Step, "push ")) {
		return "ask for the right to write (push) to this repository, or give another credential with " + user + "; where the registry wants repositories or projects to be created first, it may answer so too"
	}
	if refused.Credential != "" {
		return "check the user's name and the password or token (with two factors it is a token), and that it may write (push) to this repository"
	}
	return "log in with " + loginTo(c.target) + ", or give " + user + " with --" + c.side + "password-stdin: whoever pushes needs the right to write"
}

// isOfPush tells whether a request was part of a push.
func isOfPush(refused *registry.Error) bool {
	return strings.HasPrefix(refused.Step, "push ") || strings.HasPrefix(refused.Step, "look for blob ") || strings.Contains(refused.Scope, "push")
}
