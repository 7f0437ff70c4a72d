// govclient: govmomi's client, as the independent witness of a server of ours.
//
//	govclient URL USER PASSWORD COMMAND ARGS...
//
//	about                      product, API type and version
//	ls PATH                    inventory below a path ("/...")
//	create NAME DATASTORE      a small VM in the default place; prints its reference
//	on|off|destroy NAME        one task on the VM of that name
//	reconfigure NAME KEY VALUE an extraConfig entry
//	info NAME                  power state, device types, extraConfig, as JSON
//	all TYPE VALUE             every property of an object, as JSON
//	upload|download DS PATH    a file from standard input, to standard output
//
// With GOVCLIENT_DUMP=DIR every exchange is also written there (NNNN-Method.req.xml, .res.xml).
// The server's certificate is not verified: tests run on loopback.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/debug"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// dump keeps govmomi's debug output: one file a body, in its own naming.
type dump struct{ dir string }

var unsafe = regexp.MustCompile(`[^A-Za-z0-9._-]`)

func (d dump) NewFile(name string) io.WriteCloser {
	f, err := os.Create(filepath.Join(d.dir, unsafe.ReplaceAllString(name, "_")))
	check(err)
	return f
}

func (d dump) Flush() {}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type session struct {
	ctx    context.Context
	client *govmomi.Client
	finder *find.Finder
}

func (s *session) vm(name string) *object.VirtualMachine {
	vm, err := s.finder.VirtualMachine(s.ctx, name)
	check(err)
	return vm
}

func (s *session) about() {
	a := s.client.ServiceContent.About
	fmt.Println(a.FullName, a.ApiType, a.ApiVersion)
}

func (s *session) ls(path string) {
	list, err := s.finder.ManagedObjectListChildren(s.ctx, path)
	check(err)
	for _, e := range list {
		fmt.Println(e.Path, e.Object.Reference())
	}
}

func (s *session) create(name, datastore string) {
	dc, err := s.finder.DefaultDatacenter(s.ctx)
	check(err)
	folders, err := dc.Folders(s.ctx)
	check(err)
	pool, err := s.finder.DefaultResourcePool(s.ctx)
	check(err)
	spec := types.VirtualMachineConfigSpec{
		Name:     name,
		GuestId:  "otherGuest64",
		NumCPUs:  1,
		MemoryMB: 64,
		Files:    &types.VirtualMachineFileInfo{VmPathName: "[" + datastore + "]"},
	}
	scsi, err := object.SCSIControllerTypes().CreateSCSIController("pvscsi")
	check(err)
	spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: scsi})
	task, err := folders.VmFolder.CreateVM(s.ctx, spec, pool, nil)
	check(err)
	info, err := task.WaitForResult(s.ctx, nil)
	check(err)
	fmt.Println(info.Result.(types.ManagedObjectReference))
}

func (s *session) act(what, name string) {
	vm := s.vm(name)
	var task *object.Task
	var err error
	switch what {
	case "on":
		task, err = vm.PowerOn(s.ctx)
	case "off":
		task, err = vm.PowerOff(s.ctx)
	case "destroy":
		task, err = vm.Destroy(s.ctx)
	}
	check(err)
	check(task.Wait(s.ctx))
}

func (s *session) reconfigure(name, key, value string) {
	task, err := s.vm(name).Reconfigure(s.ctx, types.VirtualMachineConfigSpec{
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}}})
	check(err)
	check(task.Wait(s.ctx))
}

func (s *session) info(name string) {
	var vm mo.VirtualMachine
	check(s.vm(name).Properties(s.ctx, s.vm(name).Reference(),
		[]string{"runtime.powerState", "config"}, &vm))
	out := map[string]interface{}{"power": vm.Runtime.PowerState}
	if vm.Config != nil {
		var devices []string
		for _, d := range vm.Config.Hardware.Device {
			devices = append(devices, fmt.Sprintf("%T", d))
		}
		extra := map[string]interface{}{}
		for _, o := range vm.Config.ExtraConfig {
			extra[o.GetOptionValue().Key] = o.GetOptionValue().Value
		}
		out["devices"], out["extra"], out["uuid"] = devices, extra, vm.Config.InstanceUuid
	}
	check(json.NewEncoder(os.Stdout).Encode(out))
}

func (s *session) all(kind, value string) {
	var out []types.ObjectContent
	ref := types.ManagedObjectReference{Type: kind, Value: value}
	pc := property.DefaultCollector(s.client.Client)
	check(pc.Retrieve(s.ctx, []types.ManagedObjectReference{ref}, nil, &out))
	check(json.NewEncoder(os.Stdout).Encode(out))
}

func (s *session) datastore(name string) *object.Datastore {
	ds, err := s.finder.Datastore(s.ctx, name)
	check(err)
	return ds
}

func (s *session) upload(datastore, path string) {
	check(s.datastore(datastore).Upload(s.ctx, os.Stdin, path, &soap.DefaultUpload))
}

func (s *session) download(datastore, path string) {
	body, _, err := s.datastore(datastore).Download(s.ctx, path, &soap.DefaultDownload)
	check(err)
	defer body.Close()
	_, err = io.Copy(os.Stdout, body)
	check(err)
}

func main() {
	args := os.Args[1:]
	if len(args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: govclient URL USER PASSWORD COMMAND ARGS...")
		os.Exit(2)
	}
	if dir := os.Getenv("GOVCLIENT_DUMP"); dir != "" {
		debug.SetProvider(dump{dir})
	}
	u, err := soap.ParseURL(args[0])
	check(err)
	u.User = url.UserPassword(args[1], args[2])
	ctx := context.Background()
	client, err := govmomi.NewClient(ctx, u, true)
	check(err)
	defer client.Logout(ctx)
	s := &session{ctx, client, find.NewFinder(client.Client, false)}
	if dc, err := s.finder.DefaultDatacenter(ctx); err == nil {
		s.finder.SetDatacenter(dc)
	}
	rest := append(args[4:], "", "", "")
	switch args[3] {
	case "about":
		s.about()
	case "ls":
		s.ls(rest[0])
	case "create":
		s.create(rest[0], rest[1])
	case "on", "off", "destroy":
		s.act(args[3], rest[0])
	case "reconfigure":
		s.reconfigure(rest[0], rest[1], rest[2])
	case "info":
		s.info(rest[0])
	case "all":
		s.all(rest[0], rest[1])
	case "upload":
		s.upload(rest[0], rest[1])
	case "download":
		s.download(rest[0], rest[1])
	default:
		fmt.Fprintln(os.Stderr, "unknown command", args[3])
		os.Exit(2)
	}
}
