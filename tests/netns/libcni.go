// A container runtime of one operation, with libcni of the CNI project.
//
// Usage: libcni add|check|del LIST CONTAINER NETNS [CAPABILITIES]
// LIST is the file of a network, CAPABILITIES a JSON object, such as {"mac": "02:00:00:00:00:01"}. `add` prints the result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
)

func run(operation, file, container, netns, capabilities string) error {
	list, err := libcni.ConfListFromFile(file)
	if err != nil {
		return err
	}
	runtime := &libcni.RuntimeConf{ContainerID: container, NetNS: netns, IfName: "eth0"}
	if err := json.Unmarshal([]byte(capabilities), &runtime.CapabilityArgs); err != nil {
		return err
	}
	// The results of additions are kept there for the other operations.
	cni := libcni.NewCNIConfigWithCacheDir([]string{"/opt/cni/bin"}, "/run/cni-results", nil)
	ctx := context.Background()
	switch operation {
	case "add":
		result, err := cni.AddNetworkList(ctx, list, runtime)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return cni.CheckNetworkList(ctx, list, runtime)
	case "del":
		return cni.DelNetworkList(ctx, list, runtime)
	}
	return fmt.Errorf("no operation %q", operation)
}

func main() {
	arguments := append(os.Args[1:], "{}")
	if err := run(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
