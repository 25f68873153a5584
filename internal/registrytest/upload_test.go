package registrytest_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

// upload sends a body to where an upload is, and gives status and Location; 0
// where no answer came.
func upload(t *testing.T, method, at string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, at, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, ""
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Location")
}

func TestUploadsThatAreCut(t *testing.T) {
	data := registrytest.RandomBytes(1, 1000)
	d := digest.FromBytes(data)
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{Cut: &registrytest.UploadCut{After: 600, Times: 1}}})
	_, at := upload(t, "POST", s.URL()+"/v2/a/b/blobs/uploads/", nil)
	if status, _ := upload(t, "PATCH", at, data); status != 0 || s.Stats().Cuts != 1 {
		t.Errorf("not cut: %d", status)
	}
	status, at := upload(t, "GET", at, nil)
	if status != 204 {
		t.Fatal(status)
	}
	if status, _ := upload(t, "PUT", at+"&digest="+d.String(), data[600:]); status != 201 {
		t.Errorf("what came was not kept: %d", status)
	}
	if got, all := s.Uploaded(d), s.Stats().Uploaded; got != 1000 || all != 1000 {
		t.Errorf("%d bytes, of %d, were uploaded", got, all)
	}
}

func TestUploadFaults(t *testing.T) {
	data := registrytest.RandomBytes(1, 1000)
	query := "&digest=" + digest.FromBytes(data).String()
	for name, test := range map[string]struct {
		uploads registrytest.Uploads
		method  string
		want    int
	}{
		"a body too large":  {registrytest.Uploads{MaxBody: 999}, "PUT", 413},
		"a piece too large": {registrytest.Uploads{MaxPatch: 999}, "PATCH", 416},
		"no pieces":         {registrytest.Uploads{NoPatch: true}, "PATCH", 405},
		"no last body":      {registrytest.Uploads{NoPut: true}, "PUT", 405},
		"nothing told":      {registrytest.Uploads{NoStatus: true}, "GET", 405},
		"a lost answer":     {registrytest.Uploads{Lose: &registrytest.UploadLoss{}}, "PUT", 0},
		"none":              {registrytest.Uploads{MaxBody: 1000, MaxPatch: 1000}, "PUT", 201},
	} {
		s := registrytest.Start(t, registrytest.Options{Uploads: &test.uploads})
		_, at := upload(t, "POST", s.URL()+"/v2/a/b/blobs/uploads/", nil)
		if got, _ := upload(t, test.method, at+query, data); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func TestUploadLocations(t *testing.T) {
	for form, want := range map[registrytest.UploadLocation]string{
		registrytest.UploadAbsolute: "http://HOST/v2/", registrytest.UploadRelative: "/v2/", registrytest.UploadBare: "http://HOST/v2/",
		registrytest.UploadElsewhere: "http://localhost:",
	} {
		s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{Location: form}})
		_, at := upload(t, "POST", s.URL()+"/v2/a/b/blobs/uploads/", nil)
		if !strings.HasPrefix(at, strings.Replace(want, "HOST", s.Host(), 1)) || strings.Contains(at, "?") == (form == registrytest.UploadBare) {
			t.Errorf("%d: %s", form, at)
		}
		if form != registrytest.UploadElsewhere {
			continue
		}
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := upload(t, "PATCH", at, []byte("x")); status != 202 {
			t.Errorf("signed: %d", status)
		}
		u.RawQuery = ""
		if status, _ := upload(t, "PATCH", u.String(), []byte("x")); status != 403 {
			t.Errorf("not signed: %d", status)
		}
	}
}
