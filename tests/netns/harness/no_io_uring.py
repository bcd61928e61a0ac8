"""Runs a command where io_uring is forbidden, as the seccomp filters of container tools do it (seccomp(2)).

One instruction each: load the number of the system call; is it io_uring_setup, skip one; allow; fail with EPERM.
"""

import ctypes
import errno
import os
import struct
import sys

IO_URING_SETUP = 425  # include/uapi/asm-generic/unistd.h
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22  # include/uapi/linux/prctl.h
SECCOMP_MODE_FILTER = 2  # include/uapi/linux/seccomp.h
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # include/uapi/linux/bpf_common.h

PROGRAM = [
    (LOAD_WORD, 0, 0, 0),
    (JUMP_IF_EQUAL, 1, 0, IO_URING_SETUP),
    (RETURN, 0, 0, SECCOMP_RET_ALLOW),
    (RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM),
]


class Filter(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def prctl(option, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *words) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))


code = b"".join(struct.pack("HBBI", *instruction) for instruction in PROGRAM)
prctl(PR_SET_NO_NEW_PRIVS, 1)
prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(PROGRAM), code)))
os.execvp(sys.argv[1], sys.argv[1:])
