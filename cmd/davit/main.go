// Command davit takes container images out of registries without Docker.
package main

func main() {}
