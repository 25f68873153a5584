// Package registrytest is a registry for tests and benchmarks: a healthy one
// (internal/memregistry) with every fault around it that registries, their
// CDNs and the networks between have, and with a record of what was asked of
// it. It needs no *testing.T, so that a benchmark or an end-to-end program can
// run one too.
//
//	s := registrytest.Start(t, registrytest.Options{})        // or New and Close
//	p := s.Push("team/app", "v1", registrytest.Image{Layers: []registrytest.Layer{
//		{Files: []registrytest.File{registrytest.Dir("etc"), registrytest.Text("etc/motd", "hello\n")}},
//		registrytest.RandomLayer(1, 64<<20),
//	}})
//	name := s.Host() + "/team/app:v1"                         // p.Manifest.Digest, p.Size(), …
//
// A server has three listeners: the registry, the CDN that blobs are redirected
// to where Options.Redirect is set, and the realm where Auth.OwnRealm is. All
// faults are fields of Options, for New and, while the server runs, for
// Configure:
//
//	s.Configure(func(o *registrytest.Options) {
//		o.Auth = &registrytest.Auth{User: "u", Password: "p", OwnRealm: true}
//		o.Redirect = &registrytest.Redirect{Host: "localhost", Uses: 3}
//		o.Cut = &registrytest.Cut{After: 2 << 20, PerConnection: true}
//		o.Stall = &registrytest.Stall{After: 4096, Times: 1, Match: registrytest.Of(p.Layers[1].Digest)}
//		o.Busy = &registrytest.Busy{RetryAfter: time.Second, Times: 2, Match: registrytest.Manifests}
//		o.Corrupt = map[digest.Digest]*registrytest.Corrupt{p.Layers[0].Digest: {Flip: []int64{10}}}
//		o.Answers = []registrytest.Answer{{Match: registrytest.Tags, Status: 500, Body: "\x1b[31mno"}}
//	})
//
// What happened is in Requests, Stats and BlobBytesOf; Await waits for it
// without sleeping:
//
//	err := s.Await(ctx, func(st registrytest.Stats) bool { return st.BlobBytes > 10<<20 })
//
// NewProxy runs a proxy beside it, for HTTP, CONNECT and SOCKS5, which leads names
// that nobody has to where the server is.
//
// Build and BuildIndex make the same images without a server, and AddTo puts
// them into any memregistry.Registry. The same input gives the same bytes.
package registrytest
