"""End-to-end tests with real daemons: processes, sockets, disks."""
