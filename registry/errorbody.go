package registry

import (
	"encoding/json"
	"encoding/xml"
	"strings"
)

// parseErrorBody takes code and message out of the body of a refusal: the
// distribution specification's errors, OAuth2's, Docker Hub's, or the XML of
// object stores. Other text is the message as it is; pages of HTML say nothing.
func parseErrorBody(contentType string, body []byte) (code, message string) {
	var document struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
		Details     json.RawMessage `json:"details"`
		Message     string          `json:"message"`
	}
	text := strings.TrimSpace(string(body))
	switch {
	case text == "":
		return "", ""
	case strings.HasPrefix(text, "{"):
		if json.Unmarshal(body, &document) != nil && len(document.Errors) == 0 {
			return "", ""
		}
		if len(document.Errors) > 0 {
			first := document.Errors[0]
			// The message of these does not say what is wrong with which one.
			var detail string
			switch first.Code {
			case CodeManifestBlobUnknown, CodeManifestInvalid:
				if json.Unmarshal(first.Detail, &detail) == nil && detail != "" {
					return first.Code, strings.TrimSuffix(first.Message, ".") + ": " + detail
				}
			}
			return first.Code, first.Message
		}
		var details string
		if json.Unmarshal(document.Error, &code) != nil {
			code = ""
		}
		if json.Unmarshal(document.Details, &details) != nil {
			details = ""
		}
		for _, message = range []string{document.Description, document.Message, details, code} {
			if message != "" {
				return code, message
			}
		}
		return code, ""
	case strings.HasPrefix(text, "<"):
		var stored struct {
			XMLName xml.Name
			Code    string
			Message string
		}
		if xml.Unmarshal(body, &stored) == nil && stored.XMLName.Local == "Error" {
			return stored.Code, stored.Message
		}
		return "", ""
	case strings.HasPrefix(contentType, "text/plain"):
		return "", string(body)
	}
	return "", ""
}
