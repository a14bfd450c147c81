package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// mediaBinary is the type of a snapshot.
const mediaBinary = "application/octet-stream"

// saveSnapshot sends the whole state. If that fails on the way the answer is cut off, so
// that nobody takes what came for whole.
func (s *Server) saveSnapshot(c *call) error {
	h := c.w.Header()
	h.Set("Content-Type", mediaBinary)
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=\"tenement-%d.snapshot\"", c.view.Index()))
	if c.r.Method == http.MethodHead {
		return nil
	}
	w := newDeadlineWriter(c.w)
	err := s.cfg.Members.SaveSnapshot(c.ctx, w)
	switch {
	case err == nil:
		w.done()
		return nil
	case !c.w.Committed:
		h.Del("Content-Disposition")
		return err
	default:
		s.cfg.Logger.WarnContext(c.ctx, "send snapshot", "error", err)
		panic(http.ErrAbortHandler)
	}
}

// restoreSnapshot replaces the whole state by a snapshot, however long it is.
func (s *Server) restoreSnapshot(c *call) error {
	c.object = "the whole state"
	if got := c.r.Header.Get("Content-Type"); got != mediaBinary {
		return &api.FieldError{Field: "Content-Type", Got: clip(got), Want: mediaBinary}
	}
	body := &steadyBody{r: c.r.Body, rc: http.NewResponseController(c.w.Writer)}
	if err := s.cfg.Members.RestoreSnapshot(c.ctx, body, c.args.flag("force")); err != nil {
		if body.err != nil && api.CodeOf(err) == api.CodeInternal { // it is the client that is at fault
			return &api.FieldError{Field: "body", Got: clip(body.err.Error()), Want: "a snapshot that arrives whole"}
		}
		return err
	}
	_ = body.rc.SetReadDeadline(time.Time{})
	return nil
}

// steadyBody is a body of any length that may take any time, as long as it goes on coming.
type steadyBody struct {
	r   io.Reader
	rc  *http.ResponseController
	err error // that ended it early
}

// Read implements io.Reader.
func (b *steadyBody) Read(p []byte) (int, error) {
	// The deadline is the connection's, so it is the real clock's.
	_ = b.rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
