package managed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// The bounds of operations for which the configuration's timeouts say nothing.
const (
	DefaultCreate = 10 * time.Minute
	DefaultRead   = 2 * time.Minute
	DefaultUpdate = 10 * time.Minute
	DefaultDelete = 10 * time.Minute
)

// revisionKey is where the private state has the object's revision: no attribute, since it
// changes with everything that anybody does.
const revisionKey = "revision"

// Create puts an object that must not be there yet. What is there already, and the same,
// is taken for the trace of an earlier try. The state has the object before anything is
// waited for.
func (r *Resource[M, O, P]) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m M
	resp.Diagnostics.Append(r.kind.get(ctx, req.Plan.Raw, &m, req.Plan.Get)...)
	c := r.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := bounded(ctx, P(&m).Options().Timeouts.Create, DefaultCreate, &resp.Diagnostics)
	defer cancel()
	want := r.expand(ctx, &m, &resp.Diagnostics)
	if want == nil {
		return
	}
	none := tfsdk.State{Schema: req.Plan.Schema}
	if !r.secrets(ctx, Secrets[O]{Config: req.Config, Plan: req.Plan, State: none, To: want}, &resp.Diagnostics) {
		return
	}
	absent := uint64(0)
	got, err := r.kind.Put(ctx, c, want, &absent)
	if IsCode(err, api.CodeStaleRevision) {
		got, err = r.adopt(ctx, c, want)
	}
	if err != nil {
		remote.Report(ctx, &resp.Diagnostics, r.kind.Schema, "Cannot create "+r.name(want), err)
		return
	}
	r.save(ctx, c, &m, want, got, saved[M]{state: &resp.State, identity: resp.Identity, private: resp.Private, diags: &resp.Diagnostics})
	r.wait(ctx, c, &m, got, true, &resp.Diagnostics)
}

// adopt finds out who has made what was to be created.
func (r *Resource[M, O, P]) adopt(ctx context.Context, c *client.Client, want *O) (*O, error) {
	got, err := r.kind.Get(ctx, c, r.kind.KeyOf(want))
	if err != nil {
		return nil, err
	}
	if r.kind.Claim != nil {
		if err := r.kind.Claim(got); err != nil {
			return nil, err
		}
	}
	if err := r.respell(ctx, c, want, got); err != nil {
		return nil, err
	}
	if r.kind.Same(got, want) {
		return r.settle(ctx, c, want, got)
	}
	id := strings.Join(r.kind.KeyOf(want), ":")
	return nil, api.Errorf(api.CodeConflict, "%s exists already, and is not as configured here. Somebody else has made it, or another state has it. "+
		"To manage it here, import it: terraform import ten_%s.NAME %s", r.name(want), r.kind.Type, id)
}

// Read brings the state up to date. It writes nothing that means the same otherwise.
func (r *Resource[M, O, P]) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m M
	resp.Diagnostics.Append(r.kind.get(ctx, req.State.Raw, &m, req.State.Get)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := bounded(ctx, P(&m).Options().Timeouts.Read, DefaultRead, &resp.Diagnostics)
	defer cancel()
	was := r.expand(ctx, &m, &resp.Diagnostics)
	if was == nil {
		return
	}
	// First of all, for a Terraform that keeps no identities: one is due even for what is gone.
	r.identify(ctx, resp.Identity, was, &resp.Diagnostics)
	if !r.remote.Known() {
		return
	}
	c := r.remote.Client(&resp.Diagnostics)
	got, err := r.kind.Get(ctx, c, r.kind.KeyOf(was))
	if IsCode(err, api.CodeNotFound) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		remote.Report(ctx, &resp.Diagnostics, nil, "Cannot read "+r.name(was), err)
		return
	}
	before := m
	r.save(ctx, c, &m, was, got, saved[M]{state: &resp.State, private: resp.Private, diags: &resp.Diagnostics, before: &before})
}

// Update replaces the object, unless somebody else has changed it since the plan was made.
func (r *Resource[M, O, P]) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m M
	resp.Diagnostics.Append(r.kind.get(ctx, req.Plan.Raw, &m, req.Plan.Get)...)
	c := r.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := bounded(ctx, P(&m).Options().Timeouts.Update, DefaultUpdate, &resp.Diagnostics)
	defer cancel()
	want := r.expand(ctx, &m, &resp.Diagnostics)
	if want == nil {
		return
	}
	summary := "Cannot update " + r.name(want)
	s := Secrets[O]{Config: req.Config, Plan: req.Plan, State: req.State, To: want}
	if r.kind.Secrets != nil {
		var err error
		if s.Current, err = r.kind.Get(ctx, c, r.kind.KeyOf(want)); err != nil {
			remote.Report(ctx, &resp.Diagnostics, nil, summary, err)
			return
		}
	}
	if !r.secrets(ctx, s, &resp.Diagnostics) {
		return
	}
	got, err := r.kind.Put(ctx, c, want, revision(ctx, req.Private, &resp.Diagnostics))
	if IsCode(err, api.CodeStaleRevision) {
		got, err = r.again(ctx, c, want)
	}
	if err != nil {
		remote.Report(ctx, &resp.Diagnostics, r.kind.Schema, summary, err)
		return
	}
	r.save(ctx, c, &m, want, got, saved[M]{state: &resp.State, identity: resp.Identity, private: resp.Private, diags: &resp.Diagnostics})
	r.wait(ctx, c, &m, got, false, &resp.Diagnostics)
}

// again finds out whether a write that was refused because of another one is done all the
// same: by an earlier try that nobody answered, or by somebody who wanted the same.
func (r *Resource[M, O, P]) again(ctx context.Context, c *client.Client, want *O) (*O, error) {
	got, err := r.kind.Get(ctx, c, r.kind.KeyOf(want))
	if IsCode(err, api.CodeNotFound) {
		return nil, api.Errorf(api.CodeConflict, "it was removed since Terraform last read it. Apply again: Terraform will see that, and create it anew")
	}
	if err == nil {
		err = r.respell(ctx, c, want, got)
	}
	if err != nil {
		return nil, err
	}
	if r.kind.Same(got, want) {
		return r.settle(ctx, c, want, got)
	}
	return nil, r.changed(got)
}

// settle makes sure that what is the same to look at has the same secrets: they are put
// once more, which changes nothing if it has.
func (r *Resource[M, O, P]) settle(ctx context.Context, c *client.Client, want, got *O) (*O, error) {
	if r.kind.Secrets == nil {
		return got, nil
	}
	at := r.kind.Revision(got)
	out, err := r.kind.Put(ctx, c, want, &at)
	if IsCode(err, api.CodeStaleRevision) {
		return nil, r.changed(got)
	}
	return out, err
}

// changed is the error of a write that somebody else was faster than.
func (r *Resource[M, O, P]) changed(got *O) error {
	return api.Errorf(api.CodeConflict, "somebody else has changed %s since Terraform last read it: it is at revision %d by now, and nothing was written. "+
		"Run terraform apply again: it reads first, and shows what would be undone", r.name(got), r.kind.Revision(got))
}

// Delete removes the object. One that is gone already is removed.
func (r *Resource[M, O, P]) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m M
	resp.Diagnostics.Append(r.kind.get(ctx, req.State.Raw, &m, req.State.Get)...)
	c := r.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := bounded(ctx, P(&m).Options().Timeouts.Delete, DefaultDelete, &resp.Diagnostics)
	defer cancel()
	o := r.expand(ctx, &m, &resp.Diagnostics)
	if o == nil {
		return
	}
	var err error
	if r.kind.InUse != nil {
		err = r.kind.InUse(ctx, c, o)
	}
	if err == nil {
		err = r.kind.Delete(ctx, c, o, revision(ctx, req.Private, &resp.Diagnostics))
	}
	if IsCode(err, api.CodeStaleRevision) {
		var got *O
		if got, err = r.kind.Get(ctx, c, r.kind.KeyOf(o)); err == nil {
			err = r.changed(got)
		}
	}
	if !IsCode(err, api.CodeNotFound) {
		remote.Report(ctx, &resp.Diagnostics, nil, "Cannot delete "+r.name(o), err)
	}
}

// saved is where an object goes to.
type saved[M any] struct {
	state    *tfsdk.State
	identity *tfsdk.ResourceIdentity // nil where it is told already
	private  Private
	diags    *diag.Diagnostics
	before   *M // what the state has; nil if that is something else
}

// save puts an object into the state, spelled as it was.
func (r *Resource[M, O, P]) save(ctx context.Context, c *client.Client, m *M, was, got *O, to saved[M]) {
	if err := r.respell(ctx, c, was, got); err != nil {
		to.diags.AddWarning("Cannot compare "+r.name(got), err.Error())
	}
	revision := strconv.FormatUint(r.kind.Revision(got), 10)
	to.diags.Append(P(m).Flatten(ctx, got)...)
	if to.before == nil || !reflect.DeepEqual(to.before, m) {
		to.diags.Append(to.state.Set(ctx, m)...)
	}
	to.diags.Append(to.private.SetKey(ctx, revisionKey, []byte(revision))...)
	r.identify(ctx, to.identity, got, to.diags)
}

func (r *Resource[M, O, P]) identify(ctx context.Context, identity *tfsdk.ResourceIdentity, o *O, diags *diag.Diagnostics) {
	if identity == nil {
		return
	}
	for i, part := range r.kind.KeyOf(o) {
		diags.Append(identity.SetAttribute(ctx, path.Root(r.kind.Identity[i].Name), part)...)
	}
}

func (r *Resource[M, O, P]) respell(ctx context.Context, c *client.Client, as, o *O) error {
	if r.kind.Respell == nil {
		return nil
	}
	return r.kind.Respell(ctx, c, as, o)
}

// wait waits as the model says. An apply that was cancelled is no failure of the object:
// it stays as it is, untainted.
func (r *Resource[M, O, P]) wait(ctx context.Context, c *client.Client, m *M, o *O, created bool, diags *diag.Diagnostics) {
	waitFor := P(m).Options().WaitFor
	if r.kind.Wait == nil || waitFor == WaitNone || diags.HasError() {
		return
	}
	err := r.kind.Wait(ctx, c, o, waitFor)
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		diags.AddWarning("Cancelled while waiting for "+r.name(o), "It is written; whether it is "+waitFor+" was not waited for.")
	default:
		remote.Report(ctx, diags, nil, fmt.Sprintf("%s is not %s", capital(r.name(o)), waitFor), err)
		if created {
			diags.AddWarning(capital(r.name(o))+" is created, and tainted",
				"The next apply destroys it and creates it anew, unless terraform untaint keeps it.")
		}
	}
}

func (r *Resource[M, O, P]) secrets(ctx context.Context, s Secrets[O], diags *diag.Diagnostics) bool {
	if r.kind.Secrets != nil {
		diags.Append(r.kind.Secrets(ctx, s)...)
	}
	return !diags.HasError()
}

func (r *Resource[M, O, P]) expand(ctx context.Context, m *M, diags *diag.Diagnostics) *O {
	o, d := P(m).Expand(ctx)
	diags.Append(d...)
	if diags.HasError() {
		return nil
	}
	return o
}

// name names an object in messages: "instance web:blue".
func (r *Resource[M, O, P]) name(o *O) string {
	return r.kind.Title + " " + strings.Join(r.kind.KeyOf(o), ":")
}

// bounded returns ctx with the time-out of the configuration.
func bounded(
	ctx context.Context, of func(context.Context, time.Duration) (time.Duration, diag.Diagnostics), otherwise time.Duration, diags *diag.Diagnostics,
) (context.Context, context.CancelFunc) {
	d, problems := of(ctx, otherwise)
	diags.Append(problems...)
	return context.WithTimeout(ctx, d)
}

// revision returns the revision that the state knows, nil if it knows none.
func revision(ctx context.Context, p Private, diags *diag.Diagnostics) *uint64 {
	text, problems := p.GetKey(ctx, revisionKey)
	diags.Append(problems...)
	if n, err := strconv.ParseUint(string(text), 10, 64); err == nil && n > 0 {
		return &n
	}
	return nil
}

// IsCode reports whether an error is one of the API's with a code.
func IsCode(err error, code api.Code) bool { return err != nil && api.CodeOf(err) == code }

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
