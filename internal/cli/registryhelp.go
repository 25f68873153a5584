package cli

// What the commands that ask registries say below their flags.

const credentialsHelp = `Credentials, the first that there is of:
  1. -u with --password-stdin or a prompt, or --token-stdin
  2. DAVIT_USERNAME with DAVIT_PASSWORD, or DAVIT_TOKEN; for the image's registry
     (no mirror), or where DAVIT_REGISTRY is set for that one alone
  3. in a GitLab job CI_REGISTRY_USER with CI_REGISTRY_PASSWORD, or CI_JOB_TOKEN,
     for the registry CI_REGISTRY alone; CI_DEPENDENCY_PROXY_USER and _PASSWORD
     for CI_DEPENDENCY_PROXY_SERVER
  4. --authfile or REGISTRY_AUTH_FILE, as podman login writes it
  5. config.json in DOCKER_CONFIG (~/.docker), as docker login and davit login
     write it, and the credential helpers that it names
  6. Podman's auth.json in XDG_RUNTIME_DIR or XDG_CONFIG_HOME`

const hostsHelp = `Also read, as by docker, podman and containerd: certs.d, registries.conf, hosts.toml,
daemon.json (registry-mirrors, insecure-registries).

Environment:
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
  SSL_CERT_FILE, SSL_CERT_DIR     CAs to trust, in place of the system's
  CONTAINERS_REGISTRIES_CONF      in place of registries.conf`
