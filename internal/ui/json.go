package ui

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/davit-cli/davit/image"
)

// The lines of JSON mode, told apart by "event". Sizes are bytes, times
// seconds. Fields may be added; none is renamed or taken away.
type (
	// jsonPlanned comes once before blobs are fetched.
	jsonPlanned struct {
		Event   string `json:"event"`   // planned
		Blobs   int    `json:"blobs"`   // how many
		Total   int64  `json:"total"`   // their bytes
		Resumed int64  `json:"resumed"` // of them, there from an earlier run
	}
	// jsonStarted: a blob begins.
	jsonStarted struct {
		Event   string `json:"event"` // started
		Blob    string `json:"blob"`  // digest
		Total   int64  `json:"total"`
		Resumed int64  `json:"resumed"`
	}
	// jsonProgress tells where the transfer of all blobs stands; at most four
	// a second, and none while nothing moves. The last line is a done.
	jsonProgress struct {
		Event   string  `json:"event"`          // progress, done
		Bytes   int64   `json:"bytes"`          // in place; of a copy also those that were there, or mounted
		Total   int64   `json:"total"`          // of all blobs
		Fetched int64   `json:"fetched"`        // over the network
		Resumed int64   `json:"resumed"`        // there from an earlier run, and right
		Seconds seconds `json:"seconds"`        // since planned
		Speed   int64   `json:"speed"`          // bytes a second: progress of late, done on the whole
		Left    *int64  `json:"left,omitempty"` // estimate, absent where nobody knows
	}
	// jsonRetry: a request failed and is made again.
	jsonRetry struct {
		Event string  `json:"event"`          // retry
		Blob  string  `json:"blob,omitempty"` // digest, absent for what is no blob
		Text  string  `json:"text"`           // what failed
		Wait  seconds `json:"wait"`           // until the next try
	}
	// jsonVerified: a blob is whole and has the right digest.
	jsonVerified struct {
		Event string `json:"event"` // verified
		Blob  string `json:"blob"`  // digest
		Bytes int64  `json:"bytes"`
	}
	// jsonStage tells how far a stage of the work has come that is no transfer,
	// unpacking for example; at most four a second. It is over, well or not,
	// when bytes equals total.
	jsonStage struct {
		Event string `json:"event"` // stage
		Text  string `json:"text"`  // which
		Bytes int64  `json:"bytes"` // done
		Total int64  `json:"total"` // 0 where nobody knows
	}
	// jsonText is a line for a person.
	jsonText struct {
		Event string `json:"event"` // note, warning; step with Verbose
		Text  string `json:"text"`
	}
)

// seconds is a time that is written as a number of seconds with three decimals at most.
type seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (m seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Milliseconds()) / 1000)
}

// takeJSON adds the line that e makes for a program. d.mu is held.
func (d *Display) takeJSON(e image.Event, now time.Time) {
	blob := Clean(string(e.Blob.Digest))
	switch e.Kind {
	case image.EventStep:
		if d.opts.Verbose {
			d.encode(jsonText{"step", Clean(e.Text)})
		}
	case image.EventNote:
		d.encode(jsonText{"note", Clean(e.Text)})
	case image.EventWarning:
		d.encode(jsonText{"warning", Clean(e.Text)})
	case image.EventPlanned:
		d.encode(jsonPlanned{"planned", e.Blobs, e.Bytes, e.Have})
	case image.EventBlobStarted:
		d.encode(jsonStarted{"started", blob, e.Blob.Size, e.Have})
	case image.EventRetry:
		d.encode(jsonRetry{"retry", blob, Clean(e.Text), seconds(e.Wait)})
	case image.EventBlobVerified:
		d.encode(jsonVerified{"verified", blob, e.Blob.Size})
	case image.EventDone:
		j := d.standing("done", now)
		if s := now.Sub(d.progress.began).Seconds(); s > 0 {
			j.Speed = int64(float64(j.Fetched) / s)
		}
		d.encode(j)
	}
}

// progressJSON adds a progress line. d.mu is held.
func (d *Display) progressJSON(now time.Time) {
	j := d.standing("progress", now)
	j.Speed = d.progress.speed.perSecond()
	if left, ok := d.progress.left(); ok {
		n := int64(left / time.Second)
		j.Left = &n
	}
	d.encode(j)
}

// standing tells where the transfer stands, without speed. d.mu is held.
func (d *Display) standing(event string, now time.Time) jsonProgress {
	p := &d.progress
	j := jsonProgress{Event: event, Bytes: p.done, Total: p.total, Fetched: p.fetched, Resumed: p.resumed()}
	if !p.began.IsZero() {
		j.Seconds = seconds(now.Sub(p.began))
	}
	return j
}

// encode adds v as a line. d.mu is held.
func (d *Display) encode(v any) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) == nil {
		d.lines = append(d.lines, line.Bytes()...)
	}
}
