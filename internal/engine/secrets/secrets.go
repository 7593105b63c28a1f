package secrets

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/swarm"

	"lade/internal/errdefs"
	"lade/internal/filters"
	"lade/internal/secret"
)

// Keeper has the operations on secrets and configs.
type Keeper struct {
	store *secret.Store
	// name returns what a container is called by its id.
	name    func(id string) string
	publish func(kind events.Type, action events.Action, id string, attributes map[string]string)
}

// New returns a keeper over a store. name returns what a container is called,
// publish tells the event log.
func New(store *secret.Store, name func(id string) string, publish func(events.Type, events.Action, string, map[string]string)) *Keeper {
	return &Keeper{store, name, publish}
}

// SecretCreate keeps a secret and returns its id. Errors: Invalid; Conflict for
// a name in use; NotImplemented for drivers and templates.
func (k *Keeper) SecretCreate(ctx context.Context, s swarm.SecretSpec) (string, error) {
	if s.Driver != nil {
		return "", errdefs.NotImplementedf("secret drivers are not implemented")
	}
	return k.create(ctx, secret.Secret, s.Annotations, s.Templating, s.Data)
}

// ConfigCreate keeps a config and returns its id. Errors: as of SecretCreate.
func (k *Keeper) ConfigCreate(ctx context.Context, s swarm.ConfigSpec) (string, error) {
	return k.create(ctx, secret.Config, s.Annotations, s.Templating, s.Data)
}

func (k *Keeper) create(ctx context.Context, kind secret.Kind, a swarm.Annotations, templating *swarm.Driver, value []byte) (string, error) {
	if templating != nil {
		return "", errdefs.NotImplementedf("templates of %ss are not implemented", kind)
	}
	o, err := k.store.Create(ctx, kind, a.Name, a.Labels, value)
	if err != nil {
		return "", err
	}
	k.tell(events.ActionCreate, o)
	return o.ID, nil
}

func (k *Keeper) tell(action events.Action, o *secret.Object) {
	k.publish(events.Type(o.Kind), action, o.ID, map[string]string{"name": o.Name})
}

// SecretInspect describes a secret, without its value. Errors: NotFound.
func (k *Keeper) SecretInspect(_ context.Context, ref string) (swarm.Secret, error) {
	o, err := k.store.Find(secret.Secret, ref)
	if err != nil {
		return swarm.Secret{}, err
	}
	return shown(o), nil
}

// ConfigInspect describes a config, with its value. Errors: NotFound, DataLoss.
func (k *Keeper) ConfigInspect(_ context.Context, ref string) (swarm.Config, error) {
	o, err := k.store.Find(secret.Config, ref)
	if err != nil {
		return swarm.Config{}, err
	}
	return k.config(o)
}

// SecretList describes the secrets that pass the filters. Errors: Invalid.
func (k *Keeper) SecretList(_ context.Context, f filters.Args) ([]swarm.Secret, error) {
	list, err := k.list(secret.Secret, f)
	out := make([]swarm.Secret, 0, len(list))
	for _, o := range list {
		out = append(out, shown(o))
	}
	return out, err
}

// ConfigList describes the configs that pass the filters, with their values.
// Errors: Invalid, DataLoss.
func (k *Keeper) ConfigList(_ context.Context, f filters.Args) ([]swarm.Config, error) {
	list, err := k.list(secret.Config, f)
	out := make([]swarm.Config, 0, len(list))
	for _, o := range list {
		c, cerr := k.config(o)
		if cerr != nil {
			return nil, cerr
		}
		out = append(out, c)
	}
	return out, err
}

func (k *Keeper) list(kind secret.Kind, f filters.Args) ([]*secret.Object, error) {
	if err := f.Validate("id", "name", "names", "label"); err != nil {
		return nil, err
	}
	begins := func(key, value string) bool {
		return !f.Has(key) || slices.ContainsFunc(f[key], func(p string) bool { return strings.HasPrefix(value, p) })
	}
	return slices.DeleteFunc(k.store.List(kind), func(o *secret.Object) bool {
		// Swarmkit compares beginnings, but for "names".
		return !begins("name", o.Name) || !begins("id", o.ID) || f.Has("names") && !f.Exact("names", o.Name) || !f.Labels("label", o.Labels)
	}), nil
}

// SecretUpdate replaces the labels of the version of a secret that the caller
// saw; nothing else of it changes. Errors: NotFound, Invalid.
func (k *Keeper) SecretUpdate(ctx context.Context, ref string, version uint64, s swarm.SecretSpec) error {
	return k.update(ctx, secret.Secret, ref, version, s.Annotations, s.Data)
}

// ConfigUpdate is SecretUpdate for a config.
func (k *Keeper) ConfigUpdate(ctx context.Context, ref string, version uint64, s swarm.ConfigSpec) error {
	return k.update(ctx, secret.Config, ref, version, s.Annotations, s.Data)
}

func (k *Keeper) update(ctx context.Context, kind secret.Kind, ref string, version uint64, a swarm.Annotations, value []byte) error {
	o, err := k.store.Find(kind, ref)
	if err != nil {
		return err
	}
	same := value == nil
	if !same {
		now, err := k.store.Value(kind, o.ID)
		if err != nil {
			return err
		}
		same = string(now) == string(value)
		clear(now)
	}
	if !same || a.Name != o.Name {
		return errdefs.Invalidf("rpc error: code = InvalidArgument desc = only updates to Labels are allowed")
	}
	if o, err = k.store.Relabel(ctx, kind, o.ID, version, a.Labels); err != nil {
		return err
	}
	k.tell(events.ActionUpdate, o)
	return nil
}

// SecretRemove deletes a secret. Errors: NotFound, Invalid while a container
// uses it.
func (k *Keeper) SecretRemove(ctx context.Context, ref string) error {
	return k.remove(ctx, secret.Secret, ref)
}

// ConfigRemove deletes a config. Errors: as of SecretRemove.
func (k *Keeper) ConfigRemove(ctx context.Context, ref string) error {
	return k.remove(ctx, secret.Config, ref)
}

func (k *Keeper) remove(ctx context.Context, kind secret.Kind, ref string) error {
	o, err := k.store.Remove(ctx, kind, ref, func(o *secret.Object, users []string) error {
		who := "container"
		if len(users) > 1 {
			who = "containers"
		}
		for i, id := range users {
			users[i] = k.name(id)
		}
		slices.Sort(users)
		return errdefs.Invalidf("rpc error: code = InvalidArgument desc = %s '%s' is in use by the following %s: %s", o.Kind, o.Name, who, strings.Join(users, ", "))
	})
	if err != nil {
		return err
	}
	k.tell(events.ActionRemove, o)
	return nil
}

// shown is a secret as the API has it.
func shown(o *secret.Object) swarm.Secret {
	return swarm.Secret{ID: o.ID, Meta: meta(o), Spec: swarm.SecretSpec{Annotations: annotations(o)}}
}

// config is a config as the API has it.
func (k *Keeper) config(o *secret.Object) (swarm.Config, error) {
	value, err := k.store.Value(o.Kind, o.ID)
	return swarm.Config{ID: o.ID, Meta: meta(o), Spec: swarm.ConfigSpec{Annotations: annotations(o), Data: value}}, err
}

func meta(o *secret.Object) swarm.Meta {
	return swarm.Meta{Version: swarm.Version{Index: o.Version}, CreatedAt: o.Created, UpdatedAt: o.Updated}
}

func annotations(o *secret.Object) swarm.Annotations {
	a := swarm.Annotations{Name: o.Name, Labels: o.Labels}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	return a
}
