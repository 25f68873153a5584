package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// given is how davit gets a credential in one run.
type given struct {
	as    account
	flags []string
	env   []string
	stdin string
	says  string // what davit --verbose says of where it has it from
}

// credentialSources are all of them, by name.
func credentialSources(l *logins) map[string]func(testing.TB, *door) given {
	// dockerHas is what docker login stored in a config.json that began as config.
	dockerHas := func(config, says string) func(testing.TB, *door) given {
		return func(t testing.TB, d *door) given {
			dir := l.dockerLogin(t, d, robin, config)
			stored := readAuthFile(t, filepath.Join(dir, "config.json")).Auths[d.host]
			if inFile := config == "{}"; inFile != (stored.Auth+stored.IdentityToken != "") || inFile && d.tokens != (stored.IdentityToken != "") {
				t.Fatalf("docker login has stored %+v", stored)
			}
			if says == "" {
				says = filepath.Join(dir, "config.json")
			}
			return given{as: robin, env: append(l.pass, "DOCKER_CONFIG="+dir), says: says}
		}
	}
	// podmanHas is what podman login stored, where path in the home directory.
	podmanHas := func(flag bool, variable string) func(testing.TB, *door) given {
		return func(t testing.TB, d *door) given {
			dir := workDir(t)
			file := filepath.Join(dir, "containers/auth.json")
			// For the registry as a whole somebody else is logged in.
			l.podmanLogin(t, d, job, d.host, file)
			l.podmanLogin(t, d, robin, d.host+"/"+robin.repository(), file)
			g := given{as: robin, says: file}
			switch {
			case flag:
				g.flags = []string{"--authfile", file}
			case variable == "REGISTRY_AUTH_FILE":
				g.env = []string{variable + "=" + file}
			default:
				g.env = []string{variable + "=" + dir}
			}
			return g
		}
	}
	return map[string]func(testing.TB, *door) given{
		"password-stdin": func(testing.TB, *door) given {
			return given{as: robin, flags: []string{"-u", robin.name, "--password-stdin"}, stdin: robin.password, says: "--username"}
		},
		"token-stdin": func(testing.TB, *door) given {
			return given{as: robin, flags: []string{"-u", robin.name, "--token-stdin"}, stdin: robin.password + "\n", says: "--token-stdin"}
		},
		"DAVIT_PASSWORD": func(testing.TB, *door) given {
			return given{as: robin, env: []string{"DAVIT_USERNAME=" + robin.name, "DAVIT_PASSWORD=" + robin.password}, says: "DAVIT_USERNAME"}
		},
		"DAVIT_TOKEN": func(testing.TB, *door) given {
			return given{as: robin, env: []string{"DAVIT_USERNAME=" + robin.name, "DAVIT_TOKEN=" + robin.password}, says: "DAVIT_TOKEN"}
		},
		"CI_REGISTRY_PASSWORD": func(_ testing.TB, d *door) given {
			return given{as: job, env: []string{"CI_REGISTRY=" + d.host, "CI_REGISTRY_USER=" + job.name, "CI_REGISTRY_PASSWORD=" + job.password}, says: "CI_REGISTRY_"}
		},
		"CI_JOB_TOKEN": func(_ testing.TB, d *door) given {
			return given{as: job, env: []string{"CI_REGISTRY=" + d.host, "CI_JOB_TOKEN=" + job.password}, says: "CI_JOB_TOKEN"}
		},
		"docker login":             dockerHas("{}", ""),
		"docker login credsStore":  dockerHas(`{"credsStore":"pass"}`, "docker-credential-pass"),
		"docker login credHelpers": dockerHas(`{"credHelpers":{"HOST":"pass"}}`, "docker-credential-pass"),
		"podman login --authfile":  podmanHas(true, ""),
		"podman login auth file":   podmanHas(false, "REGISTRY_AUTH_FILE"),
		"podman login runtime dir": podmanHas(false, "XDG_RUNTIME_DIR"),
		"podman login config dir":  podmanHas(false, "XDG_CONFIG_HOME"),
	}
}

// TestCredentials goes through each door with each source of credentials.
func TestCredentials(t *testing.T) {
	enabled(t)
	doors := allDoors(t)
	l := newLogins(t, doors...)
	x := greeting(t)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			nobody := endOf(t, d.davit(t, "pull", d.image(robin)))
			nobody.exits(t, 4)

			wrong := d.davit(t, "pull", d.image(robin), "-u", robin.name, "--password-stdin")
			wrong.Stdin = strings.NewReader("not " + robin.password)
			r := endOf(t, wrong)
			r.exits(t, 4)
			r.says(t, "--username")

			for name, give := range credentialSources(l) {
				t.Run(name, func(t *testing.T) {
					g := give(t, d)
					cmd := d.davit(t, append([]string{"pull", "--verbose", d.image(g.as)}, g.flags...)...)
					cmd.Env = append(cmd.Env, g.env...)
					cmd.Stdin = strings.NewReader(g.stdin)
					r := endOf(t, cmd)
					r.gets(t, x)
					r.says(t, g.says)
				})
			}
			d.seen(t)

			archive := filepath.Join(workDir(t), "image.tar")
			pull := d.davit(t, "pull", d.image(robin), "--output", archive)
			pull.Env = append(pull.Env, "DAVIT_USERNAME="+robin.name, "DAVIT_PASSWORD="+robin.password)
			endOf(t, pull).gets(t, x)
			l.docker.load(t, archive)
			if got := l.docker.run(t, d.image(robin)); got != x.prints {
				t.Errorf("the image prints %q, want %q", got, x.prints)
			}
		})
	}
}
