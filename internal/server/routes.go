package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// route is one operation of the API: its name there (the engine's and the
// client's too), and what a request for it looks like.
type route struct {
	operation string
	method    string
	path      string // pattern of http.ServeMux, without version
	handle    handler
}

// load is how much work a request for the route is: none when it mostly waits,
// 2 when several processors can share it.
func (r *route) load() int {
	switch r.operation {
	case "Events", "ContainerWait", "ContainerAttach", "ContainerAttachWebsocket", "ContainerLogs", "ContainerStats", "ExecStart", "SystemShutdown",
		"ImageBuild", "Session", "GRPC": // the work is lade-build's
		return 0
	case "ImageCreate", "ImagePush", "ImageLoad", "ImageSave", "ImageSaveAll", "ContainerExport", "ContainerArchive", "ContainerArchiveExtract", "ImageCommit",
		"VolumeExport", "VolumeImport", "VolumeClone", "VolumeSnapshot",
		"SystemDiskUsage":
		return 2
	}
	return 1
}

// notYet answers operations that are outside what the engine does so far.
func notYet(operation string) handler {
	return func(http.ResponseWriter, *http.Request) error {
		return errdefs.NotImplementedf("%s is not implemented", operation)
	}
}

// routes is the whole API.
func (s *server) routes() []route {
	const get, head, post, put, del = http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete
	table := []route{
		{"SystemPing", get, "/_ping", s.systemPing},
		{"SystemPing", head, "/_ping", s.systemPing},
		{"SystemInfo", get, "/info", s.systemInfo},
		{"SystemVersion", get, "/version", s.systemVersion},
		{"SystemDiskUsage", get, "/system/df", s.systemDiskUsage},
		{"SystemShutdown", post, "/system/shutdown", s.systemShutdown},
		{"SystemAuth", post, "/auth", s.systemAuth},
		{"Events", get, "/events", s.events},
		{"Metrics", get, "/metrics", s.metrics},

		{"ContainerList", get, "/containers/json", s.containerList},
		{"ContainerCreate", post, "/containers/create", s.containerCreate},
		{"ContainerPrune", post, "/containers/prune", s.containerPrune},
		{"ContainerInspect", get, "/containers/{id}/json", s.containerInspect},
		{"ContainerTop", get, "/containers/{id}/top", s.containerTop},
		{"ContainerLogs", get, "/containers/{id}/logs", s.containerLogs},
		{"ContainerLogsClear", post, "/containers/{id}/logs/clear", s.containerLogsClear},
		{"ContainerChanges", get, "/containers/{id}/changes", s.containerChanges},
		{"ContainerExport", get, "/containers/{id}/export", s.containerExport},
		{"ContainerStats", get, "/containers/{id}/stats", s.containerStats},
		{"ContainerResize", post, "/containers/{id}/resize", s.containerResize},
		{"ContainerStart", post, "/containers/{id}/start", s.containerStart},
		{"ContainerStop", post, "/containers/{id}/stop", s.containerStop},
		{"ContainerRestart", post, "/containers/{id}/restart", s.containerRestart},
		{"ContainerKill", post, "/containers/{id}/kill", s.containerKill},
		{"ContainerUpdate", post, "/containers/{id}/update", s.containerUpdate},
		{"ContainerRename", post, "/containers/{id}/rename", s.containerRename},
		{"ContainerPause", post, "/containers/{id}/pause", s.containerPause},
		{"ContainerUnpause", post, "/containers/{id}/unpause", s.containerUnpause},
		{"ContainerAttach", post, "/containers/{id}/attach", s.containerAttach},
		{"ContainerAttachWebsocket", get, "/containers/{id}/attach/ws", s.containerAttachWebsocket},
		{"ContainerWait", post, "/containers/{id}/wait", s.containerWait},
		{"ContainerRemove", del, "/containers/{id}", s.containerRemove},
		{"ContainerArchiveStat", head, "/containers/{id}/archive", s.containerArchiveStat},
		{"ContainerArchive", get, "/containers/{id}/archive", s.containerArchive},
		{"ContainerArchiveExtract", put, "/containers/{id}/archive", s.containerArchiveExtract},
		{"CheckpointList", get, "/containers/{id}/checkpoints", nil},
		{"CheckpointCreate", post, "/containers/{id}/checkpoints", nil},
		{"CheckpointRemove", del, "/containers/{id}/checkpoints/{checkpoint}", nil},

		{"ExecCreate", post, "/containers/{id}/exec", s.execCreate},
		{"ExecStart", post, "/exec/{id}/start", s.execStart},
		{"ExecResize", post, "/exec/{id}/resize", s.execResize},
		{"ExecInspect", get, "/exec/{id}/json", s.execInspect},

		{"ImageList", get, "/images/json", s.imageList},
		{"ImageCreate", post, "/images/create", s.imageCreate},
		{"ImageInspect", get, "/images/{name}/json", s.imageInspect},
		{"ImageHistory", get, "/images/{name}/history", s.imageHistory},
		{"ImageAttestations", get, "/images/{name}/attestations", s.imageAttestations},
		{"ImagePush", post, "/images/{name}/push", s.imagePush},
		{"ImageTag", post, "/images/{name}/tag", s.imageTag},
		{"ImageRemove", del, "/images/{name}", s.imageRemove},
		{"ImageSearch", get, "/images/search", s.imageSearch},
		{"ImagePrune", post, "/images/prune", s.imagePrune},
		{"ImageSave", get, "/images/{name}/get", s.imageSave},
		{"ImageSaveAll", get, "/images/get", s.imageSaveAll},
		{"ImageLoad", post, "/images/load", s.imageLoad},
		{"ImageCommit", post, "/commit", s.imageCommit},
		{"DistributionInspect", get, "/distribution/{name}/json", s.distributionInspect},

		{"ImageBuild", post, "/build", s.imageBuild},
		{"BuildCancel", post, "/build/cancel", s.buildCancel},
		{"BuildPrune", post, "/build/prune", s.buildPrune},
		{"Session", post, "/session", s.session},
		{"GRPC", post, "/grpc", s.grpc},

		{"VolumeList", get, "/volumes", s.volumeList},
		{"VolumeCreate", post, "/volumes/create", s.volumeCreate},
		{"VolumePrune", post, "/volumes/prune", s.volumePrune},
		{"VolumeInspect", get, "/volumes/{name}", s.volumeInspect},
		{"VolumeUpdate", put, "/volumes/{name}", noSwarmManager},
		{"VolumeRemove", del, "/volumes/{name}", s.volumeRemove},
		{"DiskReclaim", get, "/lade/disk/reclaim", s.diskReclaim},
		{"DiskReclaim", post, "/lade/disk/reclaim", s.diskReclaim},
		{"VolumeExport", get, "/lade/volumes/{name}/export", s.volumeExport},
		{"VolumeImport", post, "/lade/volumes/import", s.volumeImport},
		{"VolumeClone", post, "/lade/volumes/{name}/clone", s.volumeClone},
		{"VolumeSnapshot", post, "/lade/volumes/{name}/snapshot", s.volumeSnapshot},
		{"VolumeRename", post, "/lade/volumes/{name}/rename", s.volumeRename},

		{"NetworkList", get, "/networks", s.networkList},
		{"NetworkCreate", post, "/networks/create", s.networkCreate},
		{"NetworkPrune", post, "/networks/prune", s.networkPrune},
		{"NetworkInspect", get, "/networks/{id}", s.networkInspect},
		{"NetworkRemove", del, "/networks/{id}", s.networkRemove},
		{"NetworkConnect", post, "/networks/{id}/connect", s.networkConnect},
		{"NetworkDisconnect", post, "/networks/{id}/disconnect", s.networkDisconnect},

		{"SecretList", get, "/secrets", s.secretList},
		{"SecretCreate", post, "/secrets/create", s.secretCreate},
		{"SecretInspect", get, "/secrets/{id}", s.secretInspect},
		{"SecretUpdate", post, "/secrets/{id}/update", s.secretUpdate},
		{"SecretRemove", del, "/secrets/{id}", s.secretRemove},
		{"ConfigList", get, "/configs", s.configList},
		{"ConfigCreate", post, "/configs/create", s.configCreate},
		{"ConfigInspect", get, "/configs/{id}", s.configInspect},
		{"ConfigUpdate", post, "/configs/{id}/update", s.configUpdate},
		{"ConfigRemove", del, "/configs/{id}", s.configRemove},

		{"PluginList", get, "/plugins", s.pluginList},
		{"PluginPrivileges", get, "/plugins/privileges", nil},
		{"PluginPull", post, "/plugins/pull", nil},
		{"PluginCreate", post, "/plugins/create", nil},
		{"PluginInspect", get, "/plugins/{name}/json", noSuchPlugin},
		{"PluginRemove", del, "/plugins/{name}", noSuchPlugin},
		{"PluginEnable", post, "/plugins/{name}/enable", noSuchPlugin},
		{"PluginDisable", post, "/plugins/{name}/disable", noSuchPlugin},
		{"PluginUpgrade", post, "/plugins/{name}/upgrade", noSuchPlugin},
		{"PluginPush", post, "/plugins/{name}/push", noSuchPlugin},
		{"PluginSet", post, "/plugins/{name}/set", noSuchPlugin},

		{"SwarmInspect", get, "/swarm", noSwarmManager},
		{"SwarmInit", post, "/swarm/init", nil},
		{"SwarmJoin", post, "/swarm/join", nil},
		{"SwarmLeave", post, "/swarm/leave", noSwarm},
		{"SwarmUpdate", post, "/swarm/update", noSwarmManager},
		{"SwarmUnlockKey", get, "/swarm/unlockkey", noSwarmManager},
		{"SwarmUnlock", post, "/swarm/unlock", noSwarm},
	}
	// What only a manager of a swarm has; secrets and configs are there without.
	for _, o := range []struct{ noun, path string }{
		{"Node", "/nodes"}, {"Service", "/services"}, {"Task", "/tasks"},
	} {
		table = append(table,
			route{o.noun + "List", get, o.path, noSwarmManager},
			route{o.noun + "Inspect", get, o.path + "/{id}", noSwarmManager})
		if o.noun == "Service" || o.noun == "Task" {
			table = append(table, route{o.noun + "Logs", get, o.path + "/{id}/logs", noSwarmManager})
		}
		if o.noun == "Task" {
			continue
		}
		table = append(table,
			route{o.noun + "Remove", del, o.path + "/{id}", noSwarmManager},
			route{o.noun + "Update", post, o.path + "/{id}/update", noSwarmManager})
		if o.noun != "Node" {
			table = append(table, route{o.noun + "Create", post, o.path + "/create", noSwarmManager})
		}
	}
	for i := range table {
		if table[i].handle == nil {
			table[i].handle = notYet(table[i].operation)
		}
	}
	return table
}
