package hosts

import "slices"

// merge adds to h what another source says of the same host. The first source
// that prescribes a scheme, or has key pairs, is heard; a CA that any of them
// trusts is trusted; Insecure and Plain are enough said once.
func (h *Host) merge(from Host) {
	if from.weight() > h.weight() {
		h.Source = from.Source
	}
	if h.Scheme == "" {
		h.Scheme = from.Scheme
	}
	h.Insecure = h.Insecure || from.Insecure
	h.Plain = h.Plain || from.Plain
	for _, file := range from.CAFiles {
		if !slices.Contains(h.CAFiles, file) {
			h.CAFiles = append(h.CAFiles, file)
		}
	}
	if len(h.KeyPairs) == 0 {
		h.KeyPairs = slices.Clone(from.KeyPairs)
	}
}

// weight is how much a user has to know of what is said.
func (h *Host) weight() int {
	switch {
	case h.Insecure || h.Plain || h.Scheme == "http":
		return 3
	case h.Scheme != "":
		return 2
	case len(h.CAFiles) > 0 || len(h.KeyPairs) > 0:
		return 1
	}
	return 0
}
