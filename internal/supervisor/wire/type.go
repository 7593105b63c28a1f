package wire

import "strconv"

// Type says what a frame's body is. The numbers are part of the protocol.
type Type uint16

// The types of frames; 1–63 go to the supervisor, 64 and up come from it.
const (
	TypeHello     Type = 1
	TypePutFilter Type = 2
	TypeStart     Type = 3
	TypeExec      Type = 4
	TypeAttach    Type = 5
	TypeSignal    Type = 6
	TypeResize    Type = 7
	TypeFreeze    Type = 8
	TypeUpdate    Type = 9
	TypeForget    Type = 10
	TypeAdopt     Type = 11
	TypeDuplicate Type = 12
	TypeUpgrade   Type = 13
	TypeShutdown  Type = 14
	TypeMakeUser  Type = 15
	TypeClearLog  Type = 16

	TypeOK       Type = 64
	TypeError    Type = 65
	TypeWelcome  Type = 66
	TypeStarted  Type = 67
	TypeExited   Type = 68
	TypeOOM      Type = 69
	TypeMadeUser Type = 70
)

// TypeOf returns the frame type of a message (a struct of this package or a
// pointer to one), or 0 if it is none.
func TypeOf(msg any) Type {
	switch msg.(type) {
	case Hello, *Hello:
		return TypeHello
	case PutFilter, *PutFilter:
		return TypePutFilter
	case Start, *Start:
		return TypeStart
	case Exec, *Exec:
		return TypeExec
	case Attach, *Attach:
		return TypeAttach
	case Signal, *Signal:
		return TypeSignal
	case Resize, *Resize:
		return TypeResize
	case Freeze, *Freeze:
		return TypeFreeze
	case Update, *Update:
		return TypeUpdate
	case Forget, *Forget:
		return TypeForget
	case Adopt, *Adopt:
		return TypeAdopt
	case Duplicate, *Duplicate:
		return TypeDuplicate
	case Upgrade, *Upgrade:
		return TypeUpgrade
	case Shutdown, *Shutdown:
		return TypeShutdown
	case MakeUser, *MakeUser:
		return TypeMakeUser
	case ClearLog, *ClearLog:
		return TypeClearLog
	case SetResolver, *SetResolver:
		return TypeSetResolver
	case SetNames, *SetNames:
		return TypeSetNames
	case MadeUser, *MadeUser:
		return TypeMadeUser
	case OK, *OK:
		return TypeOK
	case Error, *Error:
		return TypeError
	case Welcome, *Welcome:
		return TypeWelcome
	case Started, *Started:
		return TypeStarted
	case Exited, *Exited:
		return TypeExited
	case OOM, *OOM:
		return TypeOOM
	}
	return 0
}

// String returns the type's name, for logs.
func (t Type) String() string {
	switch t {
	case TypeHello:
		return "Hello"
	case TypePutFilter:
		return "PutFilter"
	case TypeStart:
		return "Start"
	case TypeExec:
		return "Exec"
	case TypeAttach:
		return "Attach"
	case TypeSignal:
		return "Signal"
	case TypeResize:
		return "Resize"
	case TypeFreeze:
		return "Freeze"
	case TypeUpdate:
		return "Update"
	case TypeForget:
		return "Forget"
	case TypeAdopt:
		return "Adopt"
	case TypeDuplicate:
		return "Duplicate"
	case TypeUpgrade:
		return "Upgrade"
	case TypeShutdown:
		return "Shutdown"
	case TypeMakeUser:
		return "MakeUser"
	case TypeClearLog:
		return "ClearLog"
	case TypeSetResolver:
		return "SetResolver"
	case TypeSetNames:
		return "SetNames"
	case TypeMadeUser:
		return "MadeUser"
	case TypeOK:
		return "OK"
	case TypeError:
		return "Error"
	case TypeWelcome:
		return "Welcome"
	case TypeStarted:
		return "Started"
	case TypeExited:
		return "Exited"
	case TypeOOM:
		return "OOM"
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}
