// govcodec: reads SOAP requests as govmomi's simulator does and writes them again as govmomi's client
// does, so that a test can see whether govmomi understood every element of ours.
//
//	govcodec FILE...    writes FILE.gov beside each FILE
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

func reencode(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	method, err := simulator.UnmarshalBody(types.TypeFunc(), text)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	e := xml.NewEncoder(&out)
	name := xml.StartElement{Name: xml.Name{Space: "urn:vim25", Local: method.Name}}
	if err := e.EncodeElement(method.Body, name); err != nil {
		return err
	}
	if err := e.Flush(); err != nil {
		return err
	}
	return os.WriteFile(path+".gov", out.Bytes(), 0o644)
}

func main() {
	for _, path := range os.Args[1:] {
		if err := reencode(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(1)
		}
	}
}
