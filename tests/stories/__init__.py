"""The stories of the project, told by the real daemon: real processes, sockets, disks."""
