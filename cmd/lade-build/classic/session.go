package classic

import (
	"context"
	"io"
	"net"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// attach begins a session that offers a directory as context and the client's
// credentials. ended ends it.
func (b *Builder) attach(ctx context.Context, dir string, o *options) (_ *session.Session, ended func(), _ error) {
	s, err := session.NewSession(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, nil, err
	}
	// What is copied from a context is root's, whoever sent it.
	files, err = fsutil.NewFilterFS(files, &fsutil.FilterOpt{Map: func(_ string, st *fstypes.Stat) fsutil.MapResult {
		st.Uid, st.Gid = 0, 0
		return fsutil.MapResultKeep
	}})
	if err != nil {
		return nil, nil, err
	}
	s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": files, "dockerfile": files}))
	s.Allow(&keyring{o: o})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { _ = b.sessions.HandleConn(ctx, theirs, meta) }() // ends with the connection
			return ours, nil
		}) // a session that ends early shows in the build
	}()
	return s, func() {
		_ = s.Close() // its connection is within this process
		<-done
	}, nil
}

// keyring has the credentials that came with the request.
type keyring struct {
	auth.UnimplementedAuthServer
	o *options
}

// Register implements session.Attachable.
func (k *keyring) Register(s *grpc.Server) { auth.RegisterAuthServer(s, k) }

// Credentials implements auth.AuthServer.
func (k *keyring) Credentials(_ context.Context, q *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	user, secret := k.o.credentials(q.Host)
	return &auth.CredentialsResponse{Username: user, Secret: secret}, nil
}

// watch receives what the solver tells, in place of a client of gRPC.
type watch struct {
	ctx   context.Context
	steps *steps
}

var _ controlapi.Control_StatusServer = (*watch)(nil)

// Send implements controlapi.Control_StatusServer.
func (w *watch) Send(m *controlapi.StatusResponse) error {
	w.steps.update(m)
	return nil
}

// SendMsg implements grpc.ServerStream.
func (w *watch) SendMsg(m any) error { return w.Send(m.(*controlapi.StatusResponse)) }

// RecvMsg implements grpc.ServerStream: nothing comes.
func (*watch) RecvMsg(any) error { return io.EOF }

// SetHeader implements grpc.ServerStream.
func (*watch) SetHeader(metadata.MD) error { return nil }

// SendHeader implements grpc.ServerStream.
func (*watch) SendHeader(metadata.MD) error { return nil }

// SetTrailer implements grpc.ServerStream.
func (*watch) SetTrailer(metadata.MD) {}

// Context implements grpc.ServerStream.
func (w *watch) Context() context.Context { return w.ctx }
