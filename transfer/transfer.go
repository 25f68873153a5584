// Package transfer is the engine: it fills the places of all blobs of a
// command at once, from many connections, out of order, and verifies each.
package transfer

import (
	"time"

	"github.com/davit-cli/davit/image"
)

// Options tune the engine. The zero value works.
type Options struct {
	// Jobs caps the connections at work at once. 0: 16.
	Jobs int
	// LimitRate caps the bytes fetched in a second, all connections together. 0: no cap.
	LimitRate int64
	// Retries is how many tries in a row without a new byte end the command. 0: 5.
	Retries int
	// Stall is how long a connection may give no byte while the engine waits
	// for one, before it is replaced. 0: 30 seconds.
	Stall time.Duration
	// Events receives progress. May be nil.
	Events image.EventFunc
}
