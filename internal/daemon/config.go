package daemon

import (
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/internal/cdi"
	"lade/internal/netrate"
	"lade/internal/registry"
)

// Bytes is an amount of memory or storage.
type Bytes int64

// Config is everything that an operator can say. The zero value of a field is
// never "unset": Default fills in what is not said.
type Config struct {
	File        string // the configuration file that was read, "" if there was none
	Validate    bool   // check the configuration and exit
	ShowVersion bool   // print the version and exit

	// Without are options that were given but have no effect (yet), by the
	// name of the flag. The daemon says so when it starts.
	Without []string

	API
	Paths
	Logging
	Bridge
	Registries
	Containers
	Storage
}

// API is who may connect, and how.
type API struct {
	// Hosts are the addresses to listen on: unix:///path, tcp://host:port,
	// fd:// (all sockets of the service manager) or fd://name. None means the
	// default sockets.
	Hosts []string
	// Group may connect to unix sockets. "" picks docker or lade, if there.
	Group string
	// TLS encrypts TCP; TLSVerify demands a certificate of the client that
	// TLSCACert signed. TLSChosen tells an explicit --tls=false from no word.
	TLS, TLSVerify, TLSChosen  bool
	TLSCACert, TLSCert, TLSKey string
	// MinVersion is the oldest version of the API that is spoken, such as 1.44;
	// "": all that the server knows.
	MinVersion string
	// Authorization are the plugins that must agree to each request.
	Authorization []string
	// Metrics is the address, host:port, at which Prometheus finds the numbers,
	// and nothing else; "": none. They are at /metrics of every socket, too.
	Metrics string
}

// Paths are where the daemon keeps what.
type Paths struct {
	DataRoot string // durable state
	ExecRoot string // state that ends with the machine's run
	PIDFile  string // "" is laded.pid in ExecRoot
	// Supervisor is the program that parents containers; "" is
	// lade-supervisor beside laded.
	Supervisor string
}

// Logging is the daemon's own log.
type Logging struct {
	Debug     bool
	LogLevel  string // debug, info, warn, error
	LogFormat string // text, json
	Trace     string // kinds of kernel mutations that are printed; LADE_TRACE
}

// Bridge is the default network.
type Bridge struct {
	Bridge                           string // name of the link; "" is docker0, "none" is no default network
	BIP, FixedCIDR                   string // address of the bridge with prefix; part of it for containers
	BIP6, FixedCIDR6                 string
	DefaultGateway, DefaultGateway6  string
	HostIP                           string // where ports are published
	MTU                              int    // bytes; 0: 1500
	ICC, IPForward, IPMasq, IPTables bool
	IPv6, IP6Tables, UserlandProxy   bool
	AddressPools                     []AddressPool
	DNS, DNSSearch, DNSOptions       []string
	HostGatewayIPs                   []string
	NetworkOptions                   map[string]map[string]string // of new networks, by driver
	Limits                           netrate.Limits               // of containers that ask for none
	PublishPolicy                    string                       // of ports and networks that say none: dnat or gate
	DirectRouting                    bool                         // published ports are open at the containers' own addresses, too
	AcceptMark                       string                       // of packets that pass all bridges: number or number/mask
	Firewall                         string                       // what the rules are made with
}

// AddressPool is a range that subnets of new networks are cut from.
type AddressPool struct {
	Base string `json:"base"` // prefix
	Size int    `json:"size"` // prefix length of each subnet
}

// Registries is how images come in.
type Registries struct {
	Mirrors                  []string                 // URLs, for docker.io
	Insecure                 []string                 // hosts or prefixes that may lack TLS
	Named                    map[string]registry.Host // mirrors and certificates of single registries
	MaxDownloads, MaxUploads int                      // of one pull or push
	MaxTransfers             int                      // of all together; 0: four times the larger of both
	MaxDownloadAttempts      int
	MaxLayer                 Bytes // of a layer's plain tar; 0: no limit
	HTTPProxy, HTTPSProxy    string
	NoProxy                  string
}

// Containers is what containers get that do not say otherwise.
type Containers struct {
	LogDriver       string
	LogOptions      map[string]string
	CgroupParent    string
	CgroupNamespace string // host or private; "" follows the cgroup version
	IPCMode         string // shareable or private
	DefaultRuntime  string
	Runtimes        map[string]Runtime
	Ulimits         map[string]*container.Ulimit
	ShmSize         Bytes
	StopTimeout     int // seconds
	Init            bool
	InitPath        string
	NoNewPrivileges bool
	SELinux         bool // containers get labels
	UsernsRemap     string
	SeccompProfile  string // "" and builtin: the default profile
	AppArmorProfile string // of containers that name none; "": lade-default
	Rootless        bool   // asked for, and refused
	ExecOptions     []string
	CDIDirs         []string // of the files of the Container Device Interface
	Labels          []string // of the daemon
	Features        map[string]bool
	Experimental    bool // said to clients
	OOMScoreAdjust  int  // of the daemon itself
	// ShutdownTimeout is how long stopping the daemon waits for requests.
	ShutdownTimeout time.Duration
}

// The features that there are: what clients are told of as their builder, and
// devices of the Container Device Interface, which are there unless it is off.
const (
	buildkit   = "buildkit"
	cdiFeature = "cdi"
)

// cdiDirs are where the devices are; nil: the feature is off.
func (c *Containers) cdiDirs() []string {
	if on, said := c.Features[cdiFeature]; said && !on {
		return nil
	}
	if len(c.CDIDirs) == 1 && c.CDIDirs[0] == "" { // Docker's other way to say so
		return nil
	}
	return append([]string{}, c.CDIDirs...)
}

// otherFeatures reports whether any other is named.
func (c *Containers) otherFeatures() bool {
	for name := range c.Features {
		if name != buildkit && name != cdiFeature {
			return true
		}
	}
	return false
}

// Runtime is another OCI runtime.
type Runtime struct {
	Path    string         `json:"path,omitempty"`
	Args    []string       `json:"runtimeArgs,omitempty"`
	Type    string         `json:"runtimeType,omitempty"`
	Options map[string]any `json:"options,omitempty"`
}

// Storage is how images and containers are stored.
type Storage struct {
	StorageDriver  string // "" picks one that fits
	StorageOptions []string
	Disk           Disk
}

// Disk is what keeps the disk from filling up; off unless High is set.
type Disk struct {
	High, Low Percent       // of the data root's file system
	Keep      time.Duration // what was used within it stays
	Protect   []string      // labels of what stays
	DryRun    bool
}

// The places of an ordinary installation.
const (
	defaultDataRoot   = "/var/lib/lade"
	defaultExecRoot   = "/run/lade"
	defaultConfigFile = "/etc/lade/daemon.json"
)

// nftables is the firewall that there is.
const nftables = "nftables"

// Default returns the configuration of a daemon that is told nothing.
func Default() *Config {
	return &Config{
		Paths:      Paths{DataRoot: defaultDataRoot, ExecRoot: defaultExecRoot},
		Logging:    Logging{LogLevel: "info", LogFormat: "text"},
		Bridge:     Bridge{HostIP: "0.0.0.0", Firewall: nftables, ICC: true, IPForward: true, IPMasq: true, IPTables: true, IP6Tables: true, UserlandProxy: true},
		Registries: Registries{MaxDownloads: 3, MaxUploads: 5, MaxDownloadAttempts: 5},
		Containers: Containers{
			LogDriver: "json-file", LogOptions: map[string]string{}, IPCMode: "private", DefaultRuntime: "lade",
			Runtimes: map[string]Runtime{}, Ulimits: map[string]*container.Ulimit{}, ShmSize: 64 << 20, StopTimeout: 10,
			SeccompProfile: "builtin", CDIDirs: cdi.Dirs(), Features: map[string]bool{}, ShutdownTimeout: 15 * time.Second,
		},
	}
}
