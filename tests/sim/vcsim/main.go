// vcsim: govmomi's simulator as a child process of our tests.
//
//	vcsim [-esx] [-user U] [-password P]
//
// Listens with TLS on a free loopback port, prints one line "URL THUMBPRINT" and serves until its
// standard input is closed, so that it never outlives the test.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"strings"

	"github.com/vmware/govmomi/simulator"
)

func thumbprint(der []byte) string {
	var parts []string
	for _, b := range sha256.Sum256(der) {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return strings.Join(parts, ":")
}

func main() {
	esx := flag.Bool("esx", false, "be a standalone ESX host instead of a vCenter")
	user := flag.String("user", "root", "user name")
	password := flag.String("password", "secret", "password")
	flag.Parse()
	log.SetOutput(io.Discard)

	model := simulator.VPX()
	if *esx {
		model = simulator.ESX()
	}
	if err := model.Create(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(*user, *password)}
	model.Service.TLS = new(tls.Config)
	server := model.Service.NewServer()
	fmt.Printf("https://%s %s\n", server.URL.Host, thumbprint(server.Certificate().Raw))
	io.Copy(io.Discard, os.Stdin)
	model.Remove() // server.Close would wait for long polls that nobody reads any more
}
