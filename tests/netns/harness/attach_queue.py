"""Attaches a queue to a TAP device: attach_queue.py DEVICE [multi_queue] [vnet_hdr] [ACTION...]

The actions change settings of the whole device: header=SIZE, carrier=0|1, persist=0|1, owner=UID, group=GID,
offload=FLAGS. With `wait` the queue stays open until the process is killed.
"""

import fcntl
import struct
import sys
import time

TUNSETIFF, TUNSETPERSIST, TUNSETVNETHDRSZ, TUNSETCARRIER = 0x400454CA, 0x400454CB, 0x400454D8, 0x400454E2
TUNSETOWNER, TUNSETGROUP, TUNSETOFFLOAD = 0x400454CC, 0x400454CE, 0x400454D0
FLAGS = {"multi_queue": 0x0100, "vnet_hdr": 0x4000}
TAP_NO_PI = 0x1002

device, options = sys.argv[1], sys.argv[2:]
flags = TAP_NO_PI | sum(FLAGS.get(option, 0) for option in options)
tun = open("/dev/net/tun", "r+b", buffering=0)
try:
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), flags))
except OSError as error:
    sys.exit(f"cannot attach to {device}: {error.strerror}")
print("attached", flush=True)
for action, _, value in (option.partition("=") for option in options):
    if action == "header":
        fcntl.ioctl(tun, TUNSETVNETHDRSZ, struct.pack("i", int(value)))
    elif action == "carrier":
        fcntl.ioctl(tun, TUNSETCARRIER, struct.pack("i", int(value)))
    elif action == "persist":
        fcntl.ioctl(tun, TUNSETPERSIST, int(value))
    elif action == "owner":
        fcntl.ioctl(tun, TUNSETOWNER, int(value))
    elif action == "group":
        fcntl.ioctl(tun, TUNSETGROUP, int(value))
    elif action == "offload":
        fcntl.ioctl(tun, TUNSETOFFLOAD, int(value))
    elif action == "wait":
        time.sleep(120)
