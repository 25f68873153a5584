package registry

import (
	"strings"
	"time"
)

// limit reports how many pulls are left, as Docker Hub tells it in answer to a
// request that does not count.
// https://docs.docker.com/docker-hub/usage/pulls/
func (e *examination) limit() {
	if e.quota.Get("Ratelimit-Remaining") == "" && e.stopped != "" {
		e.skip(e.stopped, HopLimit)
		return
	}
	left, _, _ := strings.Cut(e.quota.Get("Ratelimit-Remaining"), ";")
	all, window, _ := strings.Cut(e.quota.Get("Ratelimit-Limit"), ";w=")
	f := Finding{Hop: HopLimit, Status: StatusOK, Text: "the registry tells of none"}
	if left != "" {
		f.Text = left + " left"
		f.Details = map[string]string{"remaining": left}
		if all != "" {
			f.Text = left + " of " + all + " left"
			f.Details["limit"] = all
		}
		if every, err := time.ParseDuration(window + "s"); err == nil {
			f.Text += " in " + span(every)
			f.Details["window"] = window
		}
		if left == "0" {
			f.Status = StatusWarning
		}
	}
	e.tell(f)
}
