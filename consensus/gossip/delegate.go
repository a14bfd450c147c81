package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. All its methods but NodeMeta run under memberlist's
// lock: they note what they are told and return.
type delegate struct{ p *Pool }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.PingDelegate     = delegate{}
)

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte { return *d.p.meta.Load() }

// NotifyMsg implements memberlist.Delegate; nothing is sent but metadata.
func (delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (delegate) MergeRemoteState([]byte, bool) {}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	if n.Name != d.p.cfg.NodeID {
		d.p.metrics.joins.Inc()
	}
	d.p.look()
}

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	if n.Name != d.p.cfg.NodeID {
		d.p.metrics.leaves.Inc()
	}
	d.p.look()
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(*memberlist.Node) { d.p.look() }

// NotifyAlive implements memberlist.AliveDelegate: it keeps out who can be no member,
// although it has the key. memberlist checks little of this itself, and a single node
// with impossible versions would end all joins.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	err := admit(n)
	if err != nil {
		d.p.metrics.refuse(reasonIdentity)
		d.p.logs.once(reasonIdentity+err.Error(), time.Hour, slog.LevelWarn, "refused a gossip member",
			"node", fmt.Sprintf("%.64q", n.Name), "addr", n.Address(), "error", err)
	}
	return err
}

func admit(n *memberlist.Node) error {
	if !isUUID(n.Name) {
		return errors.New("name is no UUID")
	}
	if addr := addrPort(n.Addr, n.Port); !addr.IsValid() || addr.Addr().IsUnspecified() || n.Port == 0 {
		return errors.New("address cannot be reached")
	}
	if len(n.Meta) > memberlist.MetaMaxSize {
		return fmt.Errorf("metadata is longer than %d bytes", memberlist.MetaMaxSize)
	}
	if p := uint8(memberlist.ProtocolVersion2Compatible); n.PMin > p || n.PMax < p {
		return fmt.Errorf("speaks protocol %d to %d, this node %d", n.PMin, n.PMax, p)
	}
	if n.DMin > delegateVersion || n.DMax < delegateVersion {
		return fmt.Errorf("speaks version %d to %d, this node %d", n.DMin, n.DMax, delegateVersion)
	}
	return nil
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.p.metrics.conflicts.Inc()
	d.p.conflict(existing.Name, addrPort(existing.Addr, existing.Port), addrPort(other.Addr, other.Port))
}

// AckPayload implements memberlist.PingDelegate.
func (delegate) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate.
func (d delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	d.p.probes.answered(n.Name, rtt)
}
