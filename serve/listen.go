package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/davit-cli/davit/image"
)

// ListenOptions of Serve. The zero value works: plain HTTP.
type ListenOptions struct {
	// TLS has the certificate. nil: plain HTTP.
	TLS *tls.Config
	// Grace is how long what is under way may take once ctx has ended. 0 means
	// DefaultGrace; less than 0, that it is cut at once.
	Grace time.Duration
}

// DefaultGrace is for ListenOptions.Grace.
const DefaultGrace = 10 * time.Second

const (
	// headerTime is how long a client may take to send a request.
	headerTime = 20 * time.Second
	// idleTime is how long a connection may be without a request.
	idleTime = 2 * time.Minute
	// maxHeader is how many bytes a request may have. They are no more than a
	// name, a digest and a credential.
	maxHeader = 64 << 10
)

// ErrCut: requests were under way still when the time of grace was over.
var ErrCut = errors.New("connections were cut")

// Serve answers what comes to a listener until ctx ends. Then it takes no more
// requests, lets those that are under way come to their end for the time of
// grace, and returns nil, or ErrCut where that was too short. Any other error
// is the listener's. The listener is closed in each case.
func (h *Handler) Serve(ctx context.Context, listener net.Listener, opts ListenOptions) error {
	if opts.Grace == 0 {
		opts.Grace = DefaultGrace
	}
	server := &http.Server{
		Handler:           h,
		TLSConfig:         opts.TLS,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(steps(h.opts.Events), "", 0),
	}
	served := make(chan error, 1)
	go func() {
		if opts.TLS != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", errors.Join(err, server.Close()))
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(opts.Grace, 0))
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(ErrCut, server.Close())
	}
	if stopped := <-served; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, stopped)
	}
	return err
}

// steps receives what net/http would log: of connections that went wrong.
type steps image.EventFunc

// Write implements io.Writer.
func (s steps) Write(b []byte) (int, error) {
	image.EventFunc(s).Send(image.Event{Kind: image.EventStep, Text: string(b)})
	return len(b), nil
}
