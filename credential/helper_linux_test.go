package credential

import (
	"strings"
	"testing"
)

// In WSL the helper is a program of Windows.
func TestHelperOfWindows(t *testing.T) {
	for _, test := range []struct {
		installed, suffix, want string
	}{
		{"good.exe", "good", "docker-credential-good.exe"},
		{"good.exe", "good.exe", "docker-credential-good.exe"},
		{"good", "good", "docker-credential-good"},
	} {
		installHelpers(t, test.installed)
		c, err := DockerFile(writeConfig(t, `{"credsStore":"`+test.suffix+`"}`))(t.Context(), "example.com", "app")
		if err != nil || c.Source != test.want || c.Password != canary {
			t.Errorf("%s, with %s: got %v, %v", test.suffix, test.installed, c, err)
		}
	}
	installHelpers(t, "good", "good.exe")
	if c, err := DockerFile(writeConfig(t, `{"credsStore":"good"}`))(t.Context(), "example.com", "app"); err != nil || c.Source != "docker-credential-good" {
		t.Errorf("with both: got %v, %v", c, err)
	}
	installHelpers(t, "good")
	_, err := DockerFile(writeConfig(t, `{"credsStore":"bad"}`))(t.Context(), "example.com", "app")
	if err == nil || !strings.Contains(err.Error(), "docker-credential-bad: there is no such program") {
		t.Errorf("with neither: %v", err)
	}
}
