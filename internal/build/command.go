package build

// CommandVerb is the first argument of lade-build when `lade build` runs it in its
// place; the second is a Command as JSON. It finds the engine by the environment.
const CommandVerb = "command"

// Command is a build as a command line says it.
type Command struct {
	Context    string   // directory, URL, or "-" for a tar or a Dockerfile on the standard input
	File       string   // of the Dockerfile; "": that of the context, "-": the standard input
	Tags       []string `json:",omitempty"`
	Args       []string `json:",omitempty"` // "KEY=value", or "KEY" with the environment's
	Labels     []string `json:",omitempty"` // "key=value"
	Target     string   `json:",omitempty"`
	Platform   string   `json:",omitempty"`
	Network    string   `json:",omitempty"` // "", "default", "host" or "none"
	Hosts      []string `json:",omitempty"` // "name:address"
	Secrets    []string `json:",omitempty"` // "id=ID[,src=PATH|env=NAME]"
	SSH        []string `json:",omitempty"` // "default", or "ID=SOCKET|KEY[,…]"
	Outputs    []string `json:",omitempty"` // "type=TYPE[,dest=PATH]", a directory, or "-"
	CacheFrom  []string `json:",omitempty"` // "type=registry,ref=NAME", or a name
	CacheTo    []string `json:",omitempty"`
	ShmSize    int64    `json:",omitempty"` // bytes
	Ulimits    []string `json:",omitempty"` // "nofile=soft:hard"
	Progress   string   `json:",omitempty"` // "auto", "plain", "tty", "quiet" or "rawjson"
	IDFile     string   `json:",omitempty"`
	NoCache    bool     `json:",omitempty"`
	Pull       bool     `json:",omitempty"`
	Quiet      bool     `json:",omitempty"` // only the image's id
	GroupPaths string   `json:",omitempty"` // parent control group of the steps
}
