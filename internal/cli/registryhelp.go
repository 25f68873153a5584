package cli

// What the commands that ask registries say below their flags.

const credentialsHelp = `Credentials, the first that there is:
  -u with --password-stdin, --token-stdin       for the images' one registry
  DAVIT_USERNAME with DAVIT_PASSWORD, DAVIT_TOKEN
                                                for DAVIT_REGISTRY alone where set
  CI_REGISTRY with CI_REGISTRY_USER and CI_REGISTRY_PASSWORD, or CI_JOB_TOKEN
                                                in a GitLab job, for that registry
  --authfile, REGISTRY_AUTH_FILE                as podman login stores them
  config.json in DOCKER_CONFIG (~/.docker)      as docker login and davit login do
  auth.json of Podman                           in XDG_RUNTIME_DIR, XDG_CONFIG_HOME`

const hostsHelp = `Also read, as by docker, podman and containerd: certs.d, registries.conf, hosts.toml,
daemon.json (registry-mirrors, insecure-registries).

Environment:
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
  SSL_CERT_FILE, SSL_CERT_DIR   CAs to trust, in place of the system's
  CONTAINERS_REGISTRIES_CONF    in place of registries.conf`
