package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxEvent bounds one server-sent event: the largest is an object of 1 MB in an event.
const maxEvent = 4 << 20

var errEventTooLarge = errors.New("read event stream: event exceeds 4 MiB")

// sseEvent is one server-sent event. ID is the last id seen, this event's or an earlier one's.
type sseEvent struct {
	ID   string
	Name string // "message" unless given
	Data []byte
}

// sseReader reads a text/event-stream as the HTML standard describes it, but for the
// retry field, which is ignored.
type sseReader struct {
	r  *bufio.Reader
	id string
}

func newSSEReader(r io.Reader) *sseReader { return &sseReader{r: bufio.NewReaderSize(r, 16<<10)} }

// next returns the next event. An event that the end of the stream cuts off is dropped,
// as is one without data, whose id is still remembered.
func (s *sseReader) next() (sseEvent, error) {
	var (
		name    string
		data    []byte
		hasData bool
	)
	for {
		line, err := s.line()
		if err != nil {
			return sseEvent{ID: s.id}, err
		}
		if len(line) == 0 {
			if !hasData {
				name = ""
				continue
			}
			if name == "" {
				name = "message"
			}
			return sseEvent{ID: s.id, Name: name, Data: data}, nil
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "id":
			if !bytes.ContainsRune(value, 0) {
				s.id = string(value)
			}
		case "event":
			name = string(value)
		case "data":
			if hasData {
				data = append(data, '\n')
			}
			hasData = true
			data = append(data, value...)
			if len(data) > maxEvent {
				return sseEvent{ID: s.id}, errEventTooLarge
			}
		}
	}
}

// line returns the next line without its end: LF, CR LF, as the servers of this API send.
func (s *sseReader) line() ([]byte, error) {
	var line []byte
	for {
		part, err := s.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxEvent:
			return nil, errEventTooLarge
		}
	}
}
